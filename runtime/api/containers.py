"""/containers: create, look, start, stop, remove."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, request

from runtime.api import views
from runtime.api.server import answer, body, flag
from runtime.api.streams import chunked, json_lines
from runtime.containers.lifecycle import Containers
from runtime.containers.record import CREATED, CREATING, EXITED, REMOVING, RESTARTING, Container
from runtime.errors import BadParameter, NotFound, Unsupported
from runtime.filters import Filters


def blueprint(containers: Containers) -> Blueprint:
    """Return the routes of the life of containers."""
    routes = Blueprint("containers", __name__)

    @routes.post("/containers/create")
    def create() -> Response:
        if request.args.get("platform"):
            raise Unsupported("cannot create the container: pyrun has no --platform; leave it away")
        container = containers.create(request.args.get("name", ""), body())
        unchecked = containers.images.get(container.image).config.get("Healthcheck")
        warnings = ["The image's health check is not run: pyrun has none."] if unchecked else []
        return answer({"Id": container.id, "Warnings": warnings}, 201)

    @routes.get("/containers/json")
    def listed() -> Response:
        filters = Filters.parse(request.args.get("filters"))
        filters.check("list containers", views.FILTERS)
        limit = int(request.args.get("limit") or 0)
        every = flag("all") or limit > 0 or bool({"status", "exited"} & set(filters.wanted))
        found = [
            each
            for each in _selected(containers, filters)
            if each.alive or each.status == RESTARTING or (every and each.status not in (CREATING, REMOVING))
        ]
        names = containers.images.tags()
        return answer([
            views.summary(containers, each, names) | (_sizes(containers, each) if flag("size") else {})
            for each in (found[:limit] if limit > 0 else found)
        ])  # fmt: skip

    @routes.get("/containers/<wanted>/json")
    def inspect(wanted: str) -> Response:
        container = containers.index.get(wanted)
        return answer(views.details(containers, container) | (_sizes(containers, container) if flag("size") else {}))

    @routes.post("/containers/<wanted>/start")
    def start(wanted: str) -> Response:
        if request.args.get("checkpoint"):
            raise Unsupported("cannot start from a checkpoint: pyrun has none")
        return Response(status=204 if containers.start(wanted) else 304)

    @routes.post("/containers/<wanted>/stop")
    def stop(wanted: str) -> Response:
        done = containers.stop(wanted, _timeout(), request.args.get("signal", ""))
        return Response(status=204 if done else 304)

    @routes.post("/containers/<wanted>/restart")
    def restart(wanted: str) -> Response:
        containers.stop(wanted, _timeout(), request.args.get("signal", ""))
        containers.start(wanted)
        return Response(status=204)

    @routes.post("/containers/<wanted>/kill")
    def kill(wanted: str) -> Response:
        containers.kill(wanted, request.args.get("signal", ""))
        return Response(status=204)

    @routes.post("/containers/<wanted>/pause")
    def pause(wanted: str) -> Response:
        containers.pause(wanted, paused=True)
        return Response(status=204)

    @routes.post("/containers/<wanted>/unpause")
    def unpause(wanted: str) -> Response:
        containers.pause(wanted, paused=False)
        return Response(status=204)

    @routes.post("/containers/<wanted>/rename")
    def rename(wanted: str) -> Response:
        containers.rename(wanted, request.args.get("name", ""))
        return Response(status=204)

    @routes.post("/containers/<wanted>/resize")
    def resize(wanted: str) -> Response:
        container = containers.running(wanted)
        containers.bundles.shim(container).resize(*size())
        return Response(status=200)

    @routes.post("/containers/<wanted>/wait")
    def wait(wanted: str) -> Response:
        container = containers.index.get(wanted)
        pieces = json_lines(_end(containers, container, request.args.get("condition") or "not-running"))
        return chunked(pieces)

    @routes.delete("/containers/<wanted>")
    def remove(wanted: str) -> Response:
        if flag("link"):
            raise Unsupported("cannot remove a link: pyrun has none")
        containers.remove(wanted, force=flag("force"), volumes=flag("v"))
        return Response(status=204)

    @routes.post("/containers/prune")
    def prune() -> Response:
        filters = Filters.parse(request.args.get("filters"))
        filters.check("prune containers", ("label", "label!"))
        gone = []
        for container in _selected(containers, filters):
            if container.status in (CREATED, EXITED):
                containers.remove(container.id)
                gone.append(container.id)
        return answer({"ContainersDeleted": gone, "SpaceReclaimed": 0})

    return routes


def size() -> tuple[int, int]:
    """Return height and width of the query.

    Raises: BadParameter.
    """
    try:
        height, width = int(request.args["h"]), int(request.args["w"])
    except (KeyError, ValueError) as exc:
        raise BadParameter("cannot resize: h and w are to be numbers") from exc
    if not (0 <= height < 2**16 and 0 <= width < 2**16):
        raise BadParameter("cannot resize: h and w are below 65536")
    return height, width


def _sizes(containers: Containers, container: Container) -> dict[str, int]:
    changed = containers.bundles.size(container)
    below = sum(map(containers.images.layers.size, container.layers))
    return {"SizeRw": changed, "SizeRootFs": changed + below}


def _timeout() -> int | None:
    text = request.args.get("t")
    try:
        return None if text is None else int(text)
    except ValueError as exc:
        raise BadParameter(f"cannot wait {text!r}: t is a number of seconds") from exc


def _selected(containers: Containers, filters: Filters) -> list[Container]:
    others = {name: containers.index.get(name) for key in ("before", "since") for name in filters.wanted.get(key, ())}
    images = set()
    for name in filters.wanted.get("ancestor", ()):
        try:
            images.add(containers.images.get(name).id)
        except NotFound:
            continue
    return [each for each in containers.index.all() if views.fits(containers, each, filters, others, images)]


def _end(containers: Containers, begin: Container, condition: str) -> Iterator[dict[str, Any] | None]:
    index = containers.index

    def holds() -> bool:
        found = index.find(begin.id)
        if found is None:
            return True
        if condition == "removed":
            return False
        at_rest = not found.alive and found.status != RESTARTING
        return found.finished != begin.finished if condition == "next-exit" else at_rest

    if condition not in ("not-running", "next-exit", "removed"):
        raise BadParameter(f'invalid condition: "{condition}"')
    yield None
    while not index.wait_until(holds, 1.0):
        yield None
    code = index.last(begin.id).exit_code
    yield {"StatusCode": code}
