"""/volumes of the Engine API."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request

from runtime.errors import BadParameter, Unsupported
from runtime.filters import Filters
from runtime.volumes import Volumes


def blueprint(volumes: Volumes) -> Blueprint:
    """Return the routes."""
    routes = Blueprint("volumes", __name__)

    @routes.get("/volumes")
    def listing() -> dict[str, Any]:
        views, warnings = volumes.list(Filters.parse(request.args.get("filters")))
        return {"Volumes": views, "Warnings": warnings}

    @routes.post("/volumes/create")
    def create() -> tuple[dict[str, Any], int]:
        body = request.get_json(force=True, silent=True)
        if not isinstance(body, dict):
            raise BadParameter("cannot create a volume: the request has no JSON object; send at least {}")
        return volumes.create(body), 201

    @routes.post("/volumes/prune")
    def prune() -> dict[str, Any]:
        return volumes.prune(Filters.parse(request.args.get("filters")))

    @routes.get("/volumes/<name>")
    def inspect(name: str) -> dict[str, Any]:
        return volumes.inspect(name)

    @routes.put("/volumes/<name>")
    def update(name: str) -> dict[str, Any]:
        raise Unsupported(f"cannot update volume {name}: pyrun has no cluster volumes; remove it and create another")

    @routes.delete("/volumes/<name>")
    def remove(name: str) -> tuple[str, int]:
        volumes.remove(name, force=request.args.get("force", "").lower() in ("1", "true"))
        return "", 204

    return routes
