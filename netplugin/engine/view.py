"""What an engine calls networks and endpoints. Source: Docker Engine API, /networks and /containers/json."""

from __future__ import annotations

import http.client
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pluginkit.engine.api import get
from pluginkit.errors import Unavailable


@dataclass(frozen=True)
class EngineNetwork:
    """A network as the engine has it. driver: as it was asked for, with the tag of a managed plugin."""

    name: str
    driver: str


@dataclass(frozen=True)
class EngineEndpoint:
    """Which running container has an endpoint, in which network."""

    container: str
    network_id: str


@dataclass(frozen=True)
class EngineView:
    """One engine, or several together: networks and endpoints of running containers, by their IDs."""

    networks: dict[str, EngineNetwork]
    endpoints: dict[str, EngineEndpoint]

    def network_name(self, network_id: str) -> str:
        """Return the network's name, or the start of its ID if no engine knows it."""
        known = self.networks.get(network_id)
        return known.name if known else network_id[:12]

    def container_name(self, endpoint_id: str) -> str:
        """Return the name of the container that has the endpoint, or the start of its ID."""
        known = self.endpoints.get(endpoint_id)
        return known.container if known else endpoint_id[:12]

    def named(self, text: str) -> str:
        """Return the text with the names of networks where it has the starts of their IDs."""
        return re.sub(r"\bnetwork ([0-9a-f]{12})\b", lambda match: f"network {self._started(match[1])}", text)

    def _started(self, start: str) -> str:
        return next((known.name for network_id, known in self.networks.items() if network_id.startswith(start)), start)


def look(path: Path) -> EngineView:
    """Return what the engine on that Unix socket knows.

    Raises: Unavailable: none answers there.
    """
    try:
        networks = {each["Id"]: EngineNetwork(each["Name"], each["Driver"]) for each in get(path, "/networks")}
        endpoints = {
            settings["EndpointID"]: EngineEndpoint(container["Names"][0].removeprefix("/"), settings["NetworkID"])
            for container in get(path, "/containers/json")
            for settings in container["NetworkSettings"]["Networks"].values()
            if settings["EndpointID"]
        }
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as exc:
        raise Unavailable(f"cannot ask the engine on {path} what it knows: {exc}") from exc
    return EngineView(networks, endpoints)


def together(views: Sequence[EngineView]) -> EngineView:
    """Return the views as one."""
    return EngineView(
        {key: value for view in views for key, value in view.networks.items()},
        {key: value for view in views for key, value in view.endpoints.items()},
    )
