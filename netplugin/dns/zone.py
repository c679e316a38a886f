"""The names of one network, and who has them. In memory: they are made of records, as all that pynet wants."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Pool = IPv4Network | IPv6Network

# What an engine accepts as the name of a container is none of DNS's business: one label may have 63 bytes.
_NAME = re.compile(r"(?=.{1,200}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.ASCII)
_MOST_NAMES = 16


def parse_names(given: Iterable[str]) -> tuple[str, ...]:
    """Return those that DNS can carry, in lower case, each once, in their order; 16 at most."""
    fitting = (name.lower() for name in given if _NAME.fullmatch(name.lower()))
    return tuple(dict.fromkeys(fitting))[:_MOST_NAMES]


@dataclass(frozen=True)
class Domain:
    """What a zone speaks of: names that end in the network's own, in lower case, and addresses of its pools."""

    name: str
    pools: tuple[Pool, ...]


class Zone:
    """Names by address and addresses by name. One thread asks while others change it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[Address, tuple[str, ...]] = {}
        # Values are never changed, only replaced, so that who asks needs no lock.
        self._addresses: dict[str, tuple[Address, ...]] = {}

    def put(self, address: Address, names: tuple[str, ...]) -> None:
        """The address has these names and no others; none: it is unknown."""
        with self._lock:
            for name in self._names.pop(address, ()):
                left = tuple(other for other in self._addresses[name] if other != address)
                if left:
                    self._addresses[name] = left
                else:
                    del self._addresses[name]
            if names:
                self._names[address] = names
                for name in names:
                    self._addresses[name] = (*self._addresses.get(name, ()), address)

    def addresses(self, name: str) -> tuple[Address, ...]:
        """Return who has the name, in lower case and without a dot at its end."""
        return self._addresses.get(name, ())

    def names(self, address: Address) -> tuple[str, ...]:
        """Return the names of an address, the container's own first."""
        return self._names.get(address, ())

    def known(self) -> dict[Address, tuple[str, ...]]:
        """Return all addresses with their names."""
        with self._lock:
            return dict(self._names)
