"""What pynet remembers: what the engine told it and what was decided then, and nothing that the kernel told it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Generic, Literal, TypeVar

from netplugin.options import EndpointOptions, NetworkOptions

N = TypeVar("N", IPv4Network, IPv6Network)
A = TypeVar("A", IPv4Address, IPv6Address)

Protocol = Literal["tcp", "udp", "sctp"]

NO_OPTIONS = EndpointOptions()


@dataclass(frozen=True)
class Subnet(Generic[N, A]):
    """One subnet of a network.

    gateway: the bridge's address in it; None: it has none. router: where containers send what leaves the subnet, if
    that is not the bridge.
    """

    pool: N
    gateway: A | None
    address_space: str
    router: A | None = None


Subnet4 = Subnet[IPv4Network, IPv4Address]
Subnet6 = Subnet[IPv6Network, IPv6Address]


@dataclass(frozen=True)
class Network:
    """A network, from CreateNetwork to DeleteNetwork.

    mtu: decided at creation. adopted: the bridge was there before the network and stays after it. kept: the addresses
    that it had, with their prefix lengths, which stay too.
    """

    id: str
    subnets4: tuple[Subnet4, ...]
    subnets6: tuple[Subnet6, ...]
    internal: bool
    options: NetworkOptions
    mtu: int = 1500
    adopted: bool = False
    kept: tuple[str, ...] = ()

    @property
    def subnets(self) -> tuple[Subnet4 | Subnet6, ...]:
        """The subnets of both families."""
        return (*self.subnets4, *self.subnets6)


@dataclass(frozen=True)
class PublishedPort:
    """A run of `count` ports of an endpoint, open on the host: container_port + n as host_port + n.

    host4, host6: the address on which they are open, the unspecified one for all; None: not open in that family.
    """

    protocol: Protocol
    container_port: int
    host_port: int
    host4: IPv4Address | None
    host6: IPv6Address | None
    count: int = 1


@dataclass(frozen=True)
class Endpoint:
    """An endpoint, from CreateEndpoint to DeleteEndpoint.

    sandbox: the engine's key while joined, else "". ports: what is published. former_ports: what was published last, so
    that the engine, which revokes and programs an endpoint when others come and go, gets the same ports again.
    """

    id: str
    network_id: str
    address4: IPv4Interface | None
    address6: IPv6Interface | None
    mac: str
    sandbox: str = ""
    ports: tuple[PublishedPort, ...] = ()
    former_ports: tuple[PublishedPort, ...] = ()
    options: EndpointOptions = NO_OPTIONS
