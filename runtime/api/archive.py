"""/containers/…/archive: `docker cp`."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable

from flask import Blueprint, Response, request

from runtime.api.server import flag
from runtime.api.streams import written
from runtime.containers.files import Files, PathStat
from runtime.containers.lifecycle import Containers
from runtime.errors import BadParameter

_STAT = "X-Docker-Container-Path-Stat"


def blueprint(containers: Containers, files: Files) -> Blueprint:
    """Return the routes of copying."""
    routes = Blueprint("archive", __name__)

    @routes.route("/containers/<wanted>/archive", methods=["HEAD"])
    def look(wanted: str) -> Response:
        with containers.index.turn(wanted) as container:
            return Response(headers={_STAT: _encoded(files.stat(container, _path()))})

    @routes.get("/containers/<wanted>/archive")
    def read(wanted: str) -> Response:
        container, path = containers.index.get(wanted), _path()
        with containers.index.turn(container.id):
            found = files.stat(container, path)

        def write_all(write: Callable[[bytes], None]) -> None:
            # Held: a container that starts or ends meanwhile would lose its files to the other.
            with containers.index.turn(container.id) as now:
                files.pack(now, path, write)

        return written(write_all, "application/x-tar", f"{_STAT}: {_encoded(found)}")

    @routes.put("/containers/<wanted>/archive")
    def write(wanted: str) -> Response:
        with containers.index.turn(wanted) as container:
            files.unpack(container, _path(), request.stream, flag("noOverwriteDirNonDir"))
        return Response(status=200)

    return routes


def _path() -> str:
    path = request.args.get("path", "")
    if not path:
        raise BadParameter("cannot copy: the request has no path")
    return path if path.startswith("/") else f"/{path}"


def _encoded(found: PathStat) -> str:
    content = {
        "name": found.name, "size": found.size, "mode": found.mode, "linkTarget": found.link,
        "mtime": datetime.datetime.fromtimestamp(found.mtime, datetime.UTC).isoformat(),
    }  # fmt: skip
    return base64.b64encode(json.dumps(content).encode()).decode()
