"""What is changed of a container that is there: its limits (`docker update`), its files (`docker diff`)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from flask import Blueprint, Response

from runtime.api.server import answer, body
from runtime.containers import request
from runtime.containers.lifecycle import Containers
from runtime.containers.spec import resources
from runtime.errors import Unsupported

MODIFIED, ADDED, DELETED = 0, 1, 2
_UPDATED = frozenset(("Memory", "MemorySwap", "NanoCpus", "CpuShares", "CpuPeriod", "CpuQuota", "CpusetCpus",
                      "CpusetMems", "PidsLimit", "RestartPolicy"))  # fmt: skip
# What runc makes, to mount on it.
_MOUNTED_ON = tuple(Path("etc", name) for name in ("hosts", "hostname", "resolv.conf"))


def blueprint(containers: Containers) -> Blueprint:
    """Return the routes."""
    routes = Blueprint("changes", __name__)

    @routes.post("/containers/<wanted>/update")
    def update(wanted: str) -> Response:
        asked = {key: value for key, value in body().items() if value and value != {"Name": "", "MaximumRetryCount": 0}}
        if unknown := sorted(asked.keys() - _UPDATED):
            raise Unsupported(f"cannot update container {wanted}: pyrun changes no {', '.join(unknown)}")
        with containers.index.turn(wanted) as container:
            host = request.parse_host({"HostConfig": {**container.host, **asked}})
            if container.alive:
                limits = {key: value for key, value in resources(host).items() if key != "devices"}
                containers.processes.limit(container.id, limits)
            containers.index.change(container, host=host)
        return answer({"Warnings": None})

    @routes.get("/containers/<wanted>/changes")
    def show_changes(wanted: str) -> Response:
        container = containers.index.get(wanted)
        lower = [containers.images.layers.path(digest) for digest in reversed(container.layers)]
        found = _changes(containers.bundles.rootfs(container).with_name("upper"), lower)
        return answer([{"Path": f"/{path}", "Kind": kind} for path, kind in found] or None)

    return routes


def _changes(upper: Path, lower: list[Path]) -> Iterator[tuple[Path, int]]:
    """Yield what is in `upper`, and whether the layers below it, topmost first, have it too. Source: overlayfs.rst."""
    for folder, folders, files in os.walk(upper):
        for name in sorted((*folders, *files)):
            path = Path(folder, name).relative_to(upper)
            here, below = (upper / path).lstat(), _below(path, lower)
            if path in _MOUNTED_ON and here.st_size == 0:
                continue
            if stat.S_ISCHR(here.st_mode) and here.st_rdev == 0:
                yield path, DELETED
            elif below is None:
                yield path, ADDED
            elif not (stat.S_ISDIR(here.st_mode) and _same(here, below)) and not _only_mounted_on(upper / path, path):
                yield path, MODIFIED


def _below(path: Path, lower: list[Path]) -> os.stat_result | None:
    for layer in lower:
        try:
            found = (layer / path).lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return None if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0 else found
    return None


def _same(here: os.stat_result, below: os.stat_result) -> bool:
    """Whether nothing was added to a directory or taken away, and it belongs to whom it did."""
    return all(getattr(here, name) == getattr(below, name) for name in ("st_mode", "st_uid", "st_gid", "st_mtime_ns"))


def _only_mounted_on(folder: Path, path: Path) -> bool:
    return path == Path("etc") and all(path / entry.name in _MOUNTED_ON for entry in folder.iterdir())
