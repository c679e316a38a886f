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
class Overlay:
    """The part of an overlay network that is decided at creation, on this host.

    port: of UDP. vtep: this host's address in the underlay. peers: those of the other hosts; (): the cluster says who
    they are, and what is on them, or a swarm who they are. name: what the cluster calls the network, else "".
    """

    vni: int
    port: int
    vtep: str
    peers: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True)
class Network:
    """A network, from CreateNetwork to DeleteNetwork.

    mtu: decided at creation. adopted: the bridge was there before the network and stays after it. kept: the addresses
    that it had, with their prefix lengths, which stay too. overlay: None: the network ends at its host.
    """

    id: str
    subnets4: tuple[Subnet4, ...]
    subnets6: tuple[Subnet6, ...]
    internal: bool
    options: NetworkOptions
    mtu: int = 1500
    adopted: bool = False
    kept: tuple[str, ...] = ()
    overlay: Overlay | None = None

    @property
    def subnets(self) -> tuple[Subnet4 | Subnet6, ...]:
        """The subnets of both families."""
        return (*self.subnets4, *self.subnets6)

    @property
    def address_spaces(self) -> frozenset[str]:
        """Where its subnets come from."""
        return frozenset(subnet.address_space for subnet in self.subnets)

    def overlaps(self, other: Network) -> bool:
        """Tell whether there is an address that is in both."""
        pairs = ((one.pool, another.pool) for one in self.subnets for another in other.subnets)
        return any(one.version == another.version and one.overlaps(another) for one, another in pairs)


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
class Publication:
    """Ports that an administrator has published, on a container that runs.

    sources: who may use them; (): whoever the network's options say. until: when they close, in seconds since 1970;
    None: when the endpoint leaves its sandbox, as all do.
    """

    port: PublishedPort
    sources: tuple[str, ...] = ()
    until: float | None = None


@dataclass(frozen=True)
class Endpoint:
    """An endpoint, from CreateEndpoint to DeleteEndpoint.

    sandbox: the engine's key while joined, else "". ports: what the engine publishes. former_ports: what it published
    last, so that it, which revokes and programs an endpoint when others come and go, gets the same ports again.
    publications: what an administrator publishes besides. names: of its container on the network, its own first, as the
    engine was heard to say; () until then.
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
    publications: tuple[Publication, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def published(self) -> tuple[PublishedPort, ...]:
        """All its ports that are open, whoever published them."""
        return (*self.ports, *(each.port for each in self.publications))


@dataclass(frozen=True)
class Sighting:
    """An engine, by its ID, was seen to know the network of the same ID as this record."""

    engine: str


@dataclass(frozen=True)
class LostRequest:
    """The engine repeated a request about a network without its body and gave it up."""


@dataclass(frozen=True)
class HostIdentity:
    """How the cluster knows this host, whatever its name and address."""

    id: str


@dataclass(frozen=True)
class Allocation:
    """What this manager of a swarm has given to the network of the same ID as this record."""

    vni: int
    port: int


@dataclass(frozen=True)
class Node:
    """A node of the swarm, known by its address, which is the record's ID. own: it is this one."""

    own: bool


@dataclass(frozen=True)
class RemoteHost:
    """Another host that is on a network, as the cluster or a swarm says.

    public_key, endpoint: of its WireGuard link, by which alone it is reached if the network is encrypted, else "".
    """

    vtep: str
    public_key: str = ""
    endpoint: str = ""


@dataclass(frozen=True)
class RemoteEndpoint:
    """An endpoint on another host, as the cluster says."""

    mac: str
    vtep: str
    address4: IPv4Interface | None
    address6: IPv6Interface | None
    names: tuple[str, ...] = ()
