"""Containers as the Engine API shows them."""

from __future__ import annotations

import datetime
import time
from typing import Any

from runtime.containers import record
from runtime.containers.lifecycle import Containers
from runtime.containers.record import CREATED, CREATING, EXITED, PAUSED, REMOVING, RESTARTING, Container
from runtime.errors import BadParameter
from runtime.filters import Filters
from runtime.images.reference import parse_reference

# What the default network was before there were others; clients ask for it still.
_OLD_NETWORK_SETTINGS = {
    "HairpinMode": False, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": None,
    "SecondaryIPv6Addresses": None, "EndpointID": "", "Gateway": "", "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0, "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "MacAddress": "",
}  # fmt: skip
FILTERS = ("id", "name", "label", "status", "exited", "ancestor", "network", "volume", "before", "since")


def summary(containers: Containers, container: Container, names: dict[str, str]) -> dict[str, Any]:
    """Return what `docker ps` shows; `names` has the ids of images by name."""
    config = container.config
    return {
        "Id": container.id, "Names": [f"/{container.name}"], "Image": _image_name(container, names),
        "ImageID": container.image, "Command": " ".join([*(config["Entrypoint"] or []), *(config["Cmd"] or [])]),
        "Created": int(_seconds(container.created)), "Ports": _ports(containers, container), "Labels": config["Labels"],
        "State": container.status, "Status": status(container), "HostConfig": {"NetworkMode": container.network_mode},
        "NetworkSettings": {"Networks": containers.networks(container)}, "Mounts": mounts(container),
    }  # fmt: skip


def details(containers: Containers, container: Container) -> dict[str, Any]:
    """Return what `docker inspect` shows."""
    command = [*(container.config["Entrypoint"] or []), *(container.config["Cmd"] or [])]
    files, home = containers.sandboxes.files(container), containers.bundles.rootfs(container).parent
    netns = containers.sandboxes.netns(container)
    return {
        "Id": container.id, "Created": container.created, "Path": command[0], "Args": command[1:],
        "State": state(container), "Image": container.image, "Name": f"/{container.name}",
        "RestartCount": container.restarts, "Driver": "overlay2", "Platform": "linux", "MountLabel": "",
        "ProcessLabel": "", "AppArmorProfile": "", "ExecIDs": None, "HostConfig": container.host,
        "ResolvConfPath": str(files / "resolv.conf"),
        "HostnamePath": str(files / "hostname"), "HostsPath": str(files / "hosts"),
        "LogPath": str(containers.bundles.log(container)),
        "GraphDriver": {"Data": {
            "LowerDir": ":".join(str(containers.images.layers.path(digest)) for digest in reversed(container.layers)),
            "MergedDir": str(home / "merged"), "UpperDir": str(home / "upper"), "WorkDir": str(home / "work"),
        }, "Name": "overlay2"},
        "Mounts": mounts(container), "Config": _config(container),
        "NetworkSettings": {
            "Bridge": "", "SandboxID": container.id if container.alive else "",
            "SandboxKey": str(netns) if netns and container.alive else "", "Ports": containers.ports(container),
            **_OLD_NETWORK_SETTINGS, "Networks": containers.networks(container),
        },
    }  # fmt: skip


def _config(container: Container) -> dict[str, Any]:
    config = {"Hostname": "", "Domainname": "", **container.config} | {"Hostname": container.hostname}
    config["Volumes"] = config["Volumes"] or None
    return {key: value for key, value in config.items() if value or key not in ("StopSignal", "ExposedPorts")}


def _image_name(container: Container, names: dict[str, str]) -> str:
    """Return the image as it was named at creation, or its id if that means another one by now."""
    asked = str(container.config["Image"])
    if container.image.removeprefix("sha256:").startswith(asked.removeprefix("sha256:")):
        return asked
    try:
        return asked if names.get(parse_reference(asked)) == container.image else container.image
    except BadParameter:
        return container.image


def state(container: Container) -> dict[str, Any]:
    """Return the State of the API."""
    return {
        "Status": container.status, "Running": container.alive, "Paused": container.status == PAUSED,
        "Restarting": container.status == RESTARTING, "OOMKilled": container.oom_killed, "Dead": False,
        "Pid": container.pid, "ExitCode": container.exit_code, "Error": container.error,
        "StartedAt": container.started, "FinishedAt": container.finished,
    }  # fmt: skip


def status(container: Container) -> str:
    """Return the status in words."""
    if container.status in (CREATED, CREATING):
        return "Created"
    if container.status == REMOVING:
        return "Removal In Progress"
    if container.status == RESTARTING:
        return f"Restarting ({container.exit_code}) {_ago(container.finished)} ago"
    if container.status == EXITED:
        return f"Exited ({container.exit_code}) {_ago(container.finished)} ago"
    return f"Up {_ago(container.started)}{' (Paused)' if container.status == PAUSED else ''}"


def mounts(container: Container) -> list[dict[str, Any]]:
    """Return the MountPoints."""
    return [
        {key: value for key, value in point.items() if key not in ("Copy", "Options")} for point in container.mounts
    ]


def fits(
    containers: Containers, container: Container, filters: Filters, others: dict[str, Container], image_ids: set[str]
) -> bool:
    """Whether `docker ps --filter` shows it. others: the containers that before and since name."""
    config, wanted = container.config, filters.wanted
    points = {place for point in container.mounts for place in (point.get("Name"), point["Destination"])}
    return (
        filters.some("id", container.id.startswith)
        and filters.names(container.name, f"/{container.name}")
        and filters.labels(config["Labels"])
        and filters.some("status", lambda status: status == container.status)
        and filters.some("exited", lambda code: container.status == EXITED and code == str(container.exit_code))
        and ("ancestor" not in wanted or container.image in image_ids)
        and filters.some("network", lambda name: name in containers.networks(container)
                         or any(name == each.get("NetworkID") for each in containers.networks(container).values()))
        and filters.some("volume", lambda volume: volume in points)
        and all(container.created < others[name].created for name in wanted.get("before", ()))
        and all(container.created > others[name].created for name in wanted.get("since", ()))
    )  # fmt: skip


def _ports(containers: Containers, container: Container) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for port, bindings in containers.ports(container).items():
        number, _, protocol = port.partition("/")
        for binding in bindings or [{}]:
            entry: dict[str, Any] = {"PrivatePort": int(number), "Type": protocol or "tcp"}
            if binding.get("HostPort"):
                entry |= {"IP": binding.get("HostIp", ""), "PublicPort": int(binding["HostPort"])}
            found.append(entry)
    return found


def _seconds(time_text: str) -> float:
    return datetime.datetime.fromisoformat(time_text).timestamp()


def _ago(since: str) -> str:
    """Return the time that has passed, as go-units says it."""
    if since == record.NEVER:
        return "0 seconds"
    seconds = max(0, int(time.time() - _seconds(since)))
    if seconds < 1:
        return "Less than a second"
    minutes, hours = seconds // 60, round(seconds / 3600)
    steps = (
        (seconds < 60, f"{seconds} second{'s' if seconds != 1 else ''}"),
        (minutes == 1, "About a minute"),
        (minutes < 60, f"{minutes} minutes"),
        (hours <= 1, "About an hour"),
        (hours < 48, f"{hours} hours"),
        (hours < 24 * 14, f"{hours // 24} days"),
        (hours < 24 * 60, f"{hours // 24 // 7} weeks"),
    )
    return next((text for fitting, text in steps if fitting), f"{hours // 24 // 30} months")
