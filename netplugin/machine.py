"""What the verbs need of the machine besides the kernel objects of a plan."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from netplugin.records import Protocol as TransportProtocol

Address = IPv4Address | IPv6Address


class Probe(Protocol):
    """What the verbs ask of the machine before they decide."""

    def is_free(self, protocol: TransportProtocol, addresses: Iterable[Address], port: int) -> bool:
        """Tell whether a host port could be held."""

    def ephemeral_range(self) -> range:
        """Return the ports to choose from when any will do."""

    def link_exists(self, name: str) -> bool:
        """Tell whether a link of this namespace exists."""

    def addresses_of(self, name: str) -> tuple[str, ...]:
        """Return the addresses of a link, with their prefix lengths."""

    def default_mtu(self) -> int | None:
        """Return the MTU of the way out, None if there is none."""

    def sandbox_is_gone(self, key: str) -> bool:
        """Tell whether a sandbox has certainly ended; false if that cannot be seen from here."""


class Flows(Protocol):
    """Connections that outlive what they were led by."""

    def forget(self, protocol: TransportProtocol, host: Address, first: int, count: int) -> None:
        """No connection is left that began with a packet to one of the ports."""


class Announcer(Protocol):
    """Tells neighbours where an address is now."""

    def announce_soon(
        self, bridge: str, link: str, mac: str, address4: IPv4Address | None, address6: IPv6Address | None
    ) -> None:
        """Everybody on the bridge but the endpoint of `link` is told, while the caller goes on."""
