"""Which addresses a name has in a network, and which name an address has. Kept while containers come and go."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from runtime.networks.records import Endpoint


class Names:
    """Names by network, in lower case. Threads may share it."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._by_name: dict[tuple[str, str], dict[str, Endpoint]] = {}
        self._by_address: dict[tuple[str, str], str] = {}
        self._known: dict[str, tuple[Endpoint, list[str]]] = {}

    def add(self, network_name: str, endpoint: Endpoint, names: Iterable[str]) -> None:
        """The endpoint's addresses are found by each of the names, and by name.network. The first is its own."""
        own = [name.lower() for name in dict.fromkeys(names) if name]
        found = own + [f"{name}.{network_name.lower()}" for name in own]
        with self._turn:
            for name in found:
                self._by_name.setdefault((endpoint.network, name), {})[endpoint.id] = endpoint
            for address in (endpoint.address4, endpoint.address6):
                if address:
                    self._by_address[endpoint.network, address.ip] = f"{own[0]}.{network_name}"
            self._known[endpoint.id] = endpoint, found

    def remove(self, endpoint_id: str) -> None:
        """The endpoint is found no more."""
        with self._turn:
            if endpoint_id not in self._known:
                return
            endpoint, found = self._known.pop(endpoint_id)
            for name in found:
                others = self._by_name[endpoint.network, name]
                others.pop(endpoint_id, None)
                if not others:
                    del self._by_name[endpoint.network, name]
            for address in (endpoint.address4, endpoint.address6):
                if address:
                    self._by_address.pop((endpoint.network, address.ip), None)

    def addresses(self, networks: Iterable[str], name: str, v6: bool) -> list[str] | None:
        """Return the addresses of the name in the first of the networks that knows it; None if none does."""
        with self._turn:
            for network in networks:
                if found := self._by_name.get((network, name.lower())):
                    each = (endpoint.address6 if v6 else endpoint.address4 for endpoint in found.values())
                    return [address.ip for address in each if address]
        return None

    def name_of(self, networks: Iterable[str], address: str) -> str | None:
        """Return the name of the address, or None."""
        with self._turn:
            found = (self._by_address.get((network, address)) for network in networks)
            return next((name for name in found if name), None)
