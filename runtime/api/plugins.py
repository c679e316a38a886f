"""/plugins of the Engine API: managed plugins, of which pyrun has none. Others are found by their sockets."""

from __future__ import annotations

from typing import Any, NoReturn

from flask import Blueprint, jsonify

from runtime.errors import NotFound, Unsupported

VERBS = ["POST", "DELETE"]


def blueprint() -> Blueprint:
    """Return the routes."""
    routes = Blueprint("plugins", __name__)

    @routes.get("/plugins")
    def listing() -> Any:
        return jsonify([])

    @routes.get("/plugins/<path:name>/json")
    def inspect(name: str) -> NoReturn:
        raise NotFound(f'cannot inspect plugin: plugin "{name}" not found; pyrun has no managed plugins')

    @routes.route("/plugins/<path:rest>", methods=[*VERBS, "GET"])
    def unsupported(rest: str) -> NoReturn:
        raise Unsupported(
            f"cannot do {rest.split('/')[-1]} with a managed plugin: pyrun has none;"
            " start the plugin as a program, with its socket in /run/docker/plugins"
        )

    return routes
