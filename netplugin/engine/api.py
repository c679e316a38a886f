"""What an engine says of itself and its networks. Source: Docker Engine API, /info and /networks."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from pathlib import Path

from pluginkit.engine.api import get
from pluginkit.errors import Unavailable

DEFAULT_ENGINES = (Path("/run/docker.sock"), Path("/run/pyrun/pyrun.sock"))


@dataclass(frozen=True)
class Engine:
    """An engine at one moment. id: stays with its data, whatever its socket. networks: the IDs of all it knows."""

    id: str
    networks: frozenset[str]


def ask(path: Path) -> Engine:
    """Return the engine that answers on that Unix socket.

    Raises: Unavailable: none does, or not as an engine.
    """
    try:
        engine_id, networks = get(path, "/info")["ID"], get(path, "/networks")
        return Engine(engine_id, frozenset(network["Id"] for network in networks))
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as exc:
        raise Unavailable(f"cannot ask the engine on {path} which networks it knows: {exc}") from exc
