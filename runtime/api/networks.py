"""/networks of the Engine API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, jsonify, request

from runtime.errors import BadParameter
from runtime.filters import Filters
from runtime.networks.networks import DEFAULT_DRIVER, Networks

# Called with the container's name or id, the network's, and EndpointSettings or whether to force.
Connect = Callable[[str, str, dict[str, Any]], None]
Disconnect = Callable[[str, str, bool], None]
# Called with what has happened to a network, its ID and what else there is to say.
Tell = Callable[[str, str, dict[str, str]], None]


def blueprint(networks: Networks, connect: Connect, disconnect: Disconnect, tell: Tell) -> Blueprint:
    """Return the routes. Containers are connected by those who know them, for they need not run."""
    routes = Blueprint("networks", __name__)

    @routes.get("/networks")
    def listing() -> Any:
        return jsonify(networks.list(Filters.parse(request.args.get("filters"))))

    @routes.post("/networks/create")
    def create() -> tuple[dict[str, Any], int]:
        body = _body("create a network")
        created = networks.create(body)
        tell("create", created, {"name": str(body["Name"]), "type": str(body.get("Driver") or DEFAULT_DRIVER)})
        return {"Id": created, "Warning": ""}, 201

    @routes.post("/networks/prune")
    def prune() -> dict[str, Any]:
        return networks.prune(Filters.parse(request.args.get("filters")))

    @routes.get("/networks/<reference>")
    def inspect(reference: str) -> dict[str, Any]:
        return networks.inspect(reference)

    @routes.delete("/networks/<reference>")
    def remove(reference: str) -> tuple[str, int]:
        known = networks.inspect(reference)
        networks.remove(reference)
        tell("destroy", known["Id"], {"name": known["Name"], "type": known["Driver"]})
        return "", 204

    @routes.post("/networks/<reference>/connect")
    def join(reference: str) -> tuple[str, int]:
        body = _body(f"connect to network {reference}")
        connect(_container(body, reference), reference, body.get("EndpointConfig") or {})
        return "", 200

    @routes.post("/networks/<reference>/disconnect")
    def leave(reference: str) -> tuple[str, int]:
        body = _body(f"disconnect from network {reference}")
        disconnect(_container(body, reference), reference, bool(body.get("Force")))
        return "", 200

    return routes


def _body(purpose: str) -> dict[str, Any]:
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise BadParameter(f"cannot {purpose}: the request has no JSON object; see the Engine API")
    return body


def _container(body: dict[str, Any], reference: str) -> str:
    if not body.get("Container"):
        raise BadParameter(f"cannot change network {reference}: the request names no Container; name one")
    return str(body["Container"])
