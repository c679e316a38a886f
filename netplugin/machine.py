"""What the verbs need of the machine besides the kernel objects of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from netplugin.records import Endpoint, Network
from netplugin.records import Protocol as TransportProtocol

Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Way:
    """How packets get to an address: with which source, and how large at most. local: the address is this host's."""

    source: Address
    mtu: int
    local: bool


@dataclass(frozen=True)
class HostFacts:
    """What decides on a host whether packets of containers get anywhere.

    forwarding: IP versions that are forwarded. drops: chains of others that drop by policy what is forwarded, in words.
    routes: destinations with their links, those by no link left out. mtu: of the way out, None without one.
    way_out: its link for IPv4. closed: links by which the host, which forwards, takes no IPv4 packets to be forwarded.
    expiring: links by which a router announced the way out for IPv6, and no longer can. ways: how packets get to peers,
    by their address. synchronised: whether something keeps the clock right.
    """

    forwarding: frozenset[int]
    drops: tuple[str, ...]
    routes: tuple[tuple[str, str], ...]
    mtu: int | None
    way_out: str = ""
    closed: frozenset[str] = frozenset()
    expiring: tuple[str, ...] = ()
    ways: Mapping[str, Way] = field(default_factory=dict)
    synchronised: bool = True


@dataclass(frozen=True)
class Count:
    """What a link has carried since it was made. rx: what the host's end received, which the container has sent."""

    rx_bytes: int
    tx_bytes: int
    rx_packets: int
    tx_packets: int
    rx_dropped: int
    tx_dropped: int


@dataclass(frozen=True)
class Flow:
    """A connection that the kernel tracks. to: where its packets go once they are translated.

    state: of a TCP connection, else whether anything came back. packets, bytes: both ways; None: they are not counted.
    """

    protocol: str
    source: Address
    source_port: int
    destination: Address
    destination_port: int
    to: Address
    to_port: int
    state: str
    packets: int | None
    bytes: int | None


class Probe(Protocol):
    """What the verbs ask of the machine before they decide."""

    def is_free(self, protocol: TransportProtocol, addresses: Iterable[Address], port: int) -> bool:
        """Tell whether a host port could be held."""

    def ephemeral_range(self) -> range:
        """Return the ports to choose from when any will do."""

    def link_index(self, name: str) -> int:
        """Return the index of a link of this namespace, 0 if there is none of that name."""

    def addresses_of(self, name: str) -> tuple[str, ...]:
        """Return the addresses of a link, with their prefix lengths."""

    def default_mtu(self) -> int | None:
        """Return the MTU of the way out, None if there is none."""

    def way_to(self, address: Address) -> Way | None:
        """Return the way to an address, None if there is none."""

    def tunnel_lack(self) -> str:
        """Return what this host lacks for encrypted overlays, and how it gets it; "" if it lacks nothing."""

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


class Cluster(Protocol):
    """What verbs say of overlay networks to other hosts. Every call ends within a bound."""

    def join(self, network: Network) -> Network:
        """Return the network as the cluster has it; this host is on it."""

    def claim(self, network: Network, endpoint: Endpoint) -> None:
        """The endpoint's addresses are nobody else's."""

    def release(self, network: Network, endpoint_id: str) -> None:
        """The endpoint's addresses are free, now or later."""

    def look_again(self) -> None:
        """What this host is told and says is compared with its records, soon."""
