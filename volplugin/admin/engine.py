"""What the command line asks of the engine: which volumes nobody uses, and to remove them. Source: Docker Engine API.

Never asked from inside the plugin: within a request of the engine's it would wait for itself.
"""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pluginkit.errors import NotFound, PluginError, Unavailable

# Removing one waits for its disk.
_TIMEOUT_S = 130.0
DEFAULT_ENGINES = (Path("/run/docker.sock"), Path("/run/pyrun/pyrun.sock"))
# States in which a container has nothing mounted.
_AT_REST = ("exited", "dead")


@dataclass(frozen=True)
class EngineView:
    """What engines know of a driver called pyvol, whatever its tag.

    users: by volume, the names of its containers. busy: volumes of containers that are not at rest. drivers: as the
    engine spells them.
    """

    users: dict[str, tuple[str, ...]]
    busy: frozenset[str]
    drivers: frozenset[str]


def look(path: Path) -> EngineView:
    """Return what the engine on that Unix socket knows. Raises: Unavailable: none answers there."""
    try:
        status, containers = _exchange(path, "GET", "/containers/json?all=1")
        if status != http.client.OK:
            raise Unavailable(f"cannot ask the engine on {path} for its containers: it says {status}")
        users: dict[str, tuple[str, ...]] = {}
        busy, drivers = set(), set()
        for container in containers:
            for mount in container["Mounts"]:
                driver = mount.get("Driver", "")
                if driver.partition(":")[0] == "pyvol":
                    name = mount["Name"]
                    drivers.add(driver)
                    users[name] = (*users.get(name, ()), container["Names"][0].lstrip("/"))
                    if container["State"] not in _AT_REST:
                        busy.add(name)
        return EngineView(users, frozenset(busy), frozenset(drivers))
    except (ValueError, LookupError, TypeError, AttributeError) as exc:
        raise Unavailable(f"cannot ask the engine on {path}: it is none: {exc}; is --engine right?") from exc


def unused(path: Path, driver: str) -> frozenset[str]:
    """Return the names of the driver's volumes that no container of the engine has, running or not.

    Raises: Unavailable: no engine answers on that Unix socket; NotFound: it has none of this driver, but of one with
    another tag.
    """
    dangling = quote(json.dumps({"dangling": ["true"]}))
    try:
        status, content = _exchange(path, "GET", f"/volumes?filters={dangling}")
        if status == http.client.OK:
            # Without any, older engines say null.
            drivers = {volume["Name"]: volume["Driver"] for volume in content["Volumes"] or ()}
            return _of(driver, drivers)
    except (ValueError, LookupError, TypeError) as exc:
        raise Unavailable(f"cannot ask the engine on {path}: it is none: {exc}; is --engine right?") from exc
    raise Unavailable(f"cannot ask the engine on {path} which volumes are unused: it says {status}")


def _of(driver: str, drivers: dict[str, str]) -> frozenset[str]:
    """Return the names of the volumes that the driver has. Raises: NotFound: see `unused`."""
    names = frozenset(name for name, its in drivers.items() if its == driver)
    alike = sorted(its for its in drivers.values() if its.partition(":")[0] == driver.partition(":")[0])
    if alike and not names:
        reason = f"the engine has none, but of {alike[0]}; add --driver {alike[0]}"
        raise NotFound(f"cannot find volumes of the driver {driver}: {reason}")
    return names


def remove(path: Path, name: str) -> None:
    """The volume does not exist, for the engine neither.

    Raises: PluginError: the engine refuses; Unavailable: it does not answer.
    """
    status, content = _exchange(path, "DELETE", f"/volumes/{quote(name)}")
    if status >= http.client.BAD_REQUEST:
        raise PluginError(str(content.get("message", status)) if isinstance(content, dict) else str(status))


def _exchange(path: Path, verb: str, what: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("engine", timeout=_TIMEOUT_S)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(_TIMEOUT_S)
        connection.sock.connect(str(path))
        connection.request(verb, what)
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException) as exc:
        raise Unavailable(f"cannot ask the engine on {path}: {exc}; is it running, and is --engine right?") from exc
    finally:
        connection.close()
    return answer.status, json.loads(text) if text else None
