"""Networks, endpoints and sandboxes: remembered in the state file, found in memory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable

from runtime.errors import BadParameter, NotFound
from runtime.networks.records import Endpoint, Network, Ports, Target
from runtime.state import State

DEFAULT = "bridge"  # what a container has that names no network
BUILT_IN = {"host": "host", "none": "null"}


class Table:
    """All of them. What it returns does not change; what is put is on disk. Threads may share it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._turn = threading.Lock()
        self._networks = {key: Network.load(record) for key, record in state.all("network").items()}
        for name, driver in BUILT_IN.items():
            key = hashlib.sha256(f"pyrun {name}".encode()).hexdigest()
            self._networks[key] = Network(key, name, driver, {}, "1970-01-01T00:00:00Z", ready=True)
        self._ids = {network.name: key for key, network in self._networks.items()}
        self._endpoints = {key: Endpoint.load(record) for key, record in state.all("endpoint").items()}
        self._by_network: dict[str, set[str]] = {}
        self._by_container: dict[str, set[str]] = {}
        for endpoint in self._endpoints.values():
            self._index(endpoint)
        self._sandboxes = {key: (Target.load(record["target"]), record["ports"])
                           for key, record in state.all("sandbox").items()}  # fmt: skip

    def networks(self) -> list[Network]:
        """Return all networks by name."""
        with self._turn:
            return sorted(self._networks.values(), key=lambda network: network.name)

    def find(self, reference: str) -> Network:
        """Return the network of that id, name, or beginning of an id.

        Raises: NotFound; BadParameter: several begin so.
        """
        with self._turn:
            name = DEFAULT if reference == "default" else reference
            if found := self._networks.get(reference) or self._networks.get(self._ids.get(name, "")):
                return found
            fitting = [network for key, network in self._networks.items() if reference and key.startswith(reference)]
        if len(fitting) > 1:
            raise BadParameter(f"cannot find network {reference}: {len(fitting)} ids begin so; write more of it")
        if not fitting:
            raise NotFound(f"cannot find network {reference}: network {reference} not found; see docker network ls")
        return fitting[0]

    def has(self, name: str) -> bool:
        """Return whether a network has that name."""
        with self._turn:
            return name in self._ids

    def put_network(self, network: Network) -> None:
        """It is remembered."""
        with self._turn:
            self._state.put("network", network.id, network.record())
            self._networks[network.id] = network
            self._ids[network.name] = network.id

    def drop_network(self, network: Network) -> None:
        """It is forgotten."""
        with self._turn:
            self._state.delete("network", network.id)
            self._networks.pop(network.id, None)
            self._ids.pop(network.name, None)

    def put_endpoint(self, endpoint: Endpoint) -> Endpoint:
        """It is remembered; return it."""
        with self._turn:
            self._state.put("endpoint", endpoint.id, endpoint.record())
            self._endpoints[endpoint.id] = endpoint
            self._index(endpoint)
            return endpoint

    def drop_endpoint(self, endpoint: Endpoint) -> None:
        """It is forgotten."""
        with self._turn:
            self._state.delete("endpoint", endpoint.id)
            self._endpoints.pop(endpoint.id, None)
            self._by_network.get(endpoint.network, set()).discard(endpoint.id)
            self._by_container.get(endpoint.container, set()).discard(endpoint.id)

    def members(self, network: Network) -> list[Endpoint]:
        """Return the endpoints of the network."""
        with self._turn:
            return self._pick(self._by_network.get(network.id, ()))

    def endpoints(self, container: str) -> list[Endpoint]:
        """Return the endpoints of the container."""
        with self._turn:
            return self._pick(self._by_container.get(container, ()))

    def everything(self) -> list[Endpoint]:
        """Return the endpoints of all."""
        with self._turn:
            return self._pick(self._endpoints)

    def put_sandbox(self, target: Target, ports: Ports) -> None:
        """What the container's networks need to know of it is remembered."""
        with self._turn:
            self._state.put("sandbox", target.id, {"target": target.record(), "ports": ports})
            self._sandboxes[target.id] = (target, ports)

    def drop_sandbox(self, container: str) -> None:
        """It is forgotten."""
        with self._turn:
            self._state.delete("sandbox", container)
            self._sandboxes.pop(container, None)

    def sandbox(self, container: str) -> tuple[Target, Ports] | None:
        """Return what was put for the container, or None."""
        with self._turn:
            return self._sandboxes.get(container)

    def sandboxes(self) -> list[Target]:
        """Return the containers that have one."""
        with self._turn:
            return [target for target, _ in self._sandboxes.values()]

    def _pick(self, keys: Iterable[str]) -> list[Endpoint]:
        return [self._endpoints[key] for key in sorted(keys)]

    def _index(self, endpoint: Endpoint) -> None:
        self._by_network.setdefault(endpoint.network, set()).add(endpoint.id)
        self._by_container.setdefault(endpoint.container, set()).add(endpoint.id)
