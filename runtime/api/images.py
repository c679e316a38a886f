"""/images: load, import, look, tag, remove."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from flask import Blueprint, Response, request

from runtime.api.server import answer, flag
from runtime.api.streams import json_lines
from runtime.containers.lifecycle import Containers
from runtime.errors import Unsupported
from runtime.filters import Filters
from runtime.images.load import load
from runtime.images.reference import parse_reference
from runtime.images.store import Image

_FILTERS = ("reference", "dangling", "label")


def blueprint(containers: Containers) -> Blueprint:
    """Return the routes of images."""
    routes = Blueprint("images", __name__)
    images, events = containers.images, containers.events

    @routes.get("/images/json")
    def listed() -> Response:
        filters = Filters.parse(request.args.get("filters"))
        filters.check("list images", _FILTERS)
        wanted = filters.wanted.get("reference", ())
        names = {name: owner for name, owner in images.tags().items() if not wanted or _named(name, wanted)}
        shown = [_summary(image, names) for image in images.all()]
        return answer(sorted((each for each in shown if _fits(each, filters)), key=lambda each: -each["Created"]))

    @routes.post("/images/create")
    def create() -> Response:
        if request.args.get("fromSrc", "") != "-":
            name = request.args.get("fromImage") or request.args.get("fromSrc") or ""
            raise Unsupported(f"cannot pull {name}: pyrun speaks to no registry; use docker load or docker import")
        if request.args.getlist("changes") or request.args.get("platform"):
            raise Unsupported("cannot import: pyrun has neither --change nor --platform; leave them away")
        repository, tag = request.args.get("repo", ""), request.args.get("tag", "")
        name = parse_reference(repository, tag) if repository else ""
        image = images.create(request.stream, {}, request.args.get("message") or "Imported from -", name)
        events.tell("image", "import", image.id, {"name": name or image.id})
        return _lines([{"status": image.id}])

    @routes.post("/images/load")
    def loaded() -> Response:
        if request.args.get("platform"):
            raise Unsupported("cannot load: pyrun has no --platform; leave it away")
        found: list[dict[str, Any]] = []
        for image, names in load(images, request.stream):
            found += [{"stream": f"Loaded image: {name}\n"} for name in names]
            found += [] if names else [{"stream": f"Loaded image ID: {image.id}\n"}]
            events.tell("image", "load", image.id, {"name": names[0] if names else image.id})
        return _lines(found)

    @routes.get("/images/<path:wanted>/json")
    def inspect(wanted: str) -> Response:
        return answer(_details(images.get(wanted), images.tags()))

    @routes.get("/images/<path:wanted>/history")
    def history(wanted: str) -> Response:
        image = images.get(wanted)
        steps = [
            {"Id": "<missing>", "Created": _seconds(step.get("created")), "CreatedBy": step.get("created_by", ""),
             "Tags": None, "Size": 0, "Comment": step.get("comment", "")}
            for step in reversed(image.content.get("history") or [])
        ]  # fmt: skip
        if steps:
            names = [name for name, owner in images.tags().items() if owner == image.id]
            steps[0] |= {"Id": image.id, "Tags": names, "Size": image.size}
        return answer(steps)

    @routes.post("/images/<path:wanted>/tag")
    def tag(wanted: str) -> Response:
        image = images.get(wanted)
        name = parse_reference(request.args.get("repo", ""), request.args.get("tag", ""))
        images.tag(image.id, name)
        events.tell("image", "tag", image.id, {"name": name})
        return Response(status=201)

    @routes.delete("/images/<path:wanted>")
    def remove(wanted: str) -> Response:
        used = {container.image for container in containers.index.all()}
        gone = images.remove(wanted, used, flag("force"))
        _tell(gone)
        return answer(gone)

    @routes.post("/images/prune")
    def prune() -> Response:
        filters = Filters.parse(request.args.get("filters"))
        filters.check("prune images", ("dangling",))
        used = {container.image for container in containers.index.all()}
        only_unnamed = filters.some("dangling", lambda value: value in ("true", "1"))
        gone = images.prune(used, only_unnamed)
        _tell(gone)
        return answer({"ImagesDeleted": gone, "SpaceReclaimed": 0})

    def _tell(gone: list[dict[str, str]]) -> None:
        for each in gone:
            action, name = ("untag", each["Untagged"]) if "Untagged" in each else ("delete", each["Deleted"])
            events.tell("image", action, name, {"name": name})

    return routes


def _lines(objects: list[dict[str, Any]]) -> Response:
    def written() -> Iterator[bytes]:
        yield from (line for line in json_lines(objects) if line)

    return Response(written(), content_type="application/json")


def _summary(image: Image, names: dict[str, str]) -> dict[str, Any]:
    return {
        "Id": image.id, "ParentId": "", "RepoTags": [name for name, owner in names.items() if owner == image.id],
        "RepoDigests": [], "Created": _seconds(image.content.get("created")), "Size": image.size, "SharedSize": -1,
        "Labels": image.config.get("Labels"), "Containers": -1,
    }  # fmt: skip


def _details(image: Image, names: dict[str, str]) -> dict[str, Any]:
    return {
        "Id": image.id, "RepoTags": [name for name, owner in names.items() if owner == image.id], "RepoDigests": [],
        "Parent": "", "Comment": image.content.get("comment", ""), "Created": image.content.get("created", ""),
        "Author": image.content.get("author", ""), "Config": image.config, "Size": image.size,
        "Architecture": image.content.get("architecture", ""), "Os": image.content.get("os", ""),
        "GraphDriver": {"Name": "overlay2", "Data": None}, "RootFS": {"Type": "layers", "Layers": image.layers},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    }  # fmt: skip


def _fits(shown: dict[str, Any], filters: Filters) -> bool:
    return (
        (bool(shown["RepoTags"]) or "reference" not in filters.wanted)
        and filters.some("dangling", lambda value: (value in ("true", "1")) == (not shown["RepoTags"]))
        and filters.labels(shown["Labels"] or {})
    )


def _named(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns fits the name, with its tag or without."""
    return any(fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(":")[0], pattern) for pattern in patterns)


def _seconds(created: str | None) -> int:
    try:
        return int(datetime.datetime.fromisoformat(created or "").timestamp())
    except ValueError:
        return 0
