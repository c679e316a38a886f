"""/_ping, /version, /info, /events, /system/df."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, request

from runtime.api.server import API, OLDEST_API, VERSION, answer
from runtime.api.streaming import parse_time
from runtime.api.streams import chunked, json_lines
from runtime.containers.lifecycle import Containers
from runtime.containers.record import PAUSED
from runtime.errors import Unsupported
from runtime.filters import Filters
from runtime.images.store import ARCHITECTURE

_FILTERS = ("container", "event", "image", "label", "network", "type", "volume", "scope")
_UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers")


def blueprint(containers: Containers, root: str) -> Blueprint:
    """Return the routes of the daemon itself."""
    routes = Blueprint("system", __name__)

    @routes.route("/_ping", methods=["GET", "HEAD"])
    def ping() -> Response:
        return Response("OK", headers={"Cache-Control": "no-cache", "Builder-Version": "1"}, mimetype="text/plain")

    @routes.get("/version")
    def version() -> Response:
        about = {
            "Version": VERSION, "ApiVersion": API, "MinAPIVersion": OLDEST_API, "Os": "linux", "Arch": ARCHITECTURE,
            "KernelVersion": platform.release(), "GitCommit": "", "GoVersion": "", "BuildTime": "",
        }  # fmt: skip
        component = {"Name": "Engine", "Version": VERSION, "Details": {**about, "Experimental": "false"}}
        return answer({**about, "Platform": {"Name": "pyrun"}, "Components": [component]})

    @routes.get("/info")
    def info() -> Response:
        return answer(_info(containers, root))

    @routes.get("/events")
    def events() -> Response:
        filters = Filters.parse(request.args.get("filters"))
        filters.check("show events", _FILTERS)
        begin, end = parse_time(request.args.get("since")), parse_time(request.args.get("until"))
        found = containers.events.since(begin, end)
        return chunked(json_lines(event for event in found if event is None or _fits(event, filters)))

    @routes.post("/auth")
    def auth() -> Response:
        raise Unsupported("cannot log in: pyrun speaks to no registry; use docker load or docker import")

    @routes.post("/build/prune")
    def prune_builds() -> Response:
        # `docker system prune` asks: there is no cache, because nothing is built.
        return answer({"CachesDeleted": [], "SpaceReclaimed": 0})

    @routes.get("/system/df")
    def usage() -> Response:
        images = containers.images.all()
        used = [container.image for container in containers.index.all()]
        names = containers.images.tags()
        return answer({
            "LayersSize": sum(image.size for image in images),
            "Images": [
                {"Id": image.id, "RepoTags": [name for name, owner in names.items() if owner == image.id],
                 "Size": image.size, "SharedSize": 0, "Containers": used.count(image.id), "Created": 0, "ParentId": "",
                 "RepoDigests": [], "Labels": {}}
                for image in images
            ],
            "Containers": [], "Volumes": [], "BuildCache": [],
        })  # fmt: skip

    return routes


def _info(containers: Containers, root: str) -> dict[str, Any]:
    every = containers.index.all()
    running = sum(container.alive and container.status != PAUSED for container in every)
    paused = sum(container.status == PAUSED for container in every)
    with Path("/proc/meminfo").open(encoding="ascii") as lines:
        memory = int(lines.readline().split()[1]) * 1024
    return {
        "ID": os.uname().nodename, "Name": os.uname().nodename, "ServerVersion": VERSION, "Driver": "overlay2",
        "Containers": len(every), "ContainersRunning": running, "ContainersPaused": paused,
        "ContainersStopped": len(every) - running - paused, "Images": len(containers.images.all()),
        "OSType": "linux", "Architecture": platform.machine(), "KernelVersion": platform.release(),
        "OperatingSystem": "pyrun", "NCPU": os.cpu_count(), "MemTotal": memory, "DockerRootDir": root,
        "CgroupDriver": "cgroupfs", "CgroupVersion": "2" if _UNIFIED.exists() else "1",
        "DefaultRuntime": "runc", "Runtimes": {"runc": {"path": "runc"}}, "LiveRestoreEnabled": True,
        "LoggingDriver": "json-file", "SecurityOptions": ["name=seccomp,profile=builtin"], "IndexServerAddress": "",
        "MemoryLimit": True, "SwapLimit": True, "PidsLimit": True, "CpuCfsPeriod": True, "CpuCfsQuota": True,
        "CPUShares": True, "CPUSet": True, "IPv4Forwarding": True, "OomKillDisable": False,
        "Plugins": {"Volume": [], "Network": ["host", "none"], "Authorization": None, "Log": ["json-file"]},
        "Swarm": {"LocalNodeState": "inactive"}, "Warnings": None,
        "RegistryConfig": {"IndexConfigs": {}, "InsecureRegistryCIDRs": []},
    }  # fmt: skip


def _fits(event: dict[str, Any], filters: Filters) -> bool:
    actor = event["Actor"]
    names = (actor["ID"], actor["Attributes"].get("name"))
    return (
        filters.some("type", lambda kind: kind == event["Type"])
        and filters.some("event", lambda action: action == event["Action"].partition(":")[0])
        and all(
            filters.some(kind, lambda name: event["Type"] == kind and name in names)  # noqa: B023 - called at once
            for kind in ("container", "image", "network", "volume")
        )
        and filters.labels(actor["Attributes"])
    )
