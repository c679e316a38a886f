"""/plugins of the Engine API: managed plugins. Others are programs of their own, found by their sockets."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from flask import Blueprint, jsonify, request

from runtime.api.server import flag
from runtime.errors import BadParameter, Unsupported
from runtime.filters import Filters
from runtime.plugins.managed import Managed, view


def blueprint(managed: Managed) -> Blueprint:
    """Return the routes."""
    routes = Blueprint("plugins", __name__)

    @routes.get("/plugins")
    def listing() -> Any:
        return jsonify(managed.select(Filters.parse(request.args.get("filters"))))

    @routes.post("/plugins/create")
    def create() -> tuple[str, int]:
        managed.create(request.args.get("name", ""), request.stream)
        return "", 204

    @routes.get("/plugins/<path:name>/json")
    def inspect(name: str) -> Any:
        return jsonify(view(managed.get(name)))

    @routes.post("/plugins/<path:name>/enable")
    def enable(name: str) -> tuple[str, int]:
        managed.enable(name, float(request.args.get("timeout", 0, int)))
        return "", 200

    @routes.post("/plugins/<path:name>/disable")
    def disable(name: str) -> tuple[str, int]:
        managed.disable(name, flag("force"))
        return "", 200

    @routes.post("/plugins/<path:name>/set")
    def change(name: str) -> tuple[str, int]:
        try:
            words = json.loads(request.get_data())
        except ValueError as exc:
            raise BadParameter(f"cannot set plugin {name}: invalid JSON: {exc}; send a list of NAME=value") from exc
        if not isinstance(words, list):
            raise BadParameter(f"cannot set plugin {name}: the request is no list; send a list of NAME=value")
        managed.set(name, [str(word) for word in words])
        return "", 204

    @routes.delete("/plugins/<path:name>")
    def remove(name: str) -> tuple[str, int]:
        managed.remove(name, flag("force"))
        return "", 200

    @routes.route("/plugins/<path:rest>", methods=["GET", "POST"])
    def unsupported(rest: str) -> NoReturn:
        raise Unsupported(
            f"cannot do {rest.split('/')[-1]} with a plugin: pyrun speaks to no registry;"
            " use docker plugin create with a folder of config.json and rootfs"
        )

    return routes
