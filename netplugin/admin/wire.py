"""Every request and answer of the administrator's socket. What speaks it is released together with what answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from netplugin.overlay.ways import State
from pluginkit.doctor.wire import ReconcileAnswer


@dataclass(frozen=True)
class SubnetInfo:
    """A subnet. Gateway: the bridge's address in it, "" for none."""

    Pool: str
    Gateway: str


@dataclass(frozen=True)
class PortInfo:
    """A run of ports, HostPort to HostPortEnd, that leads to the endpoint's from Port on. From: who may, () for all.

    Until: when it is closed, None: with the container.
    """

    Protocol: str
    Address: str
    HostPort: int
    HostPortEnd: int
    Port: int
    From: tuple[str, ...]
    Until: datetime | None = None


@dataclass(frozen=True)
class EndpointInfo:
    """An endpoint of this host. Link: its end in the bridge. Sandbox: the engine's, "" while it is in none."""

    ID: str
    MAC: str
    Addresses: tuple[str, ...]
    Link: str
    Sandbox: str
    Ports: tuple[PortInfo, ...]


@dataclass(frozen=True)
class NetworkInfo:
    """A network. Type: bridge or overlay. Options: those that are not as they come. Elsewhere: endpoints on Hosts.

    Alone: an overlay that has no place in a cluster yet, so that no other host can be on it.
    """

    ID: str
    Type: str
    Bridge: str
    Subnets: tuple[SubnetInfo, ...]
    Internal: bool
    MTU: int
    Options: dict[str, Any]
    Endpoints: tuple[EndpointInfo, ...]
    Hosts: tuple[str, ...] = ()
    Elsewhere: int = 0
    Alone: bool = False


@dataclass(frozen=True)
class NetworksAnswer:
    """Networks.List: all networks, by ID."""

    Networks: tuple[NetworkInfo, ...]


@dataclass(frozen=True)
class ChainInfo:
    """A chain of a network, or of an endpoint of it, and what it is for.

    Table: iptables' table, or nft. Chain "": elements of maps. Rules: in the words of that program.
    """

    NetworkID: str
    EndpointID: str
    Family: str
    Table: str
    Chain: str
    Rules: tuple[str, ...]
    Purpose: str


@dataclass(frozen=True)
class RulesAnswer:
    """Rules.List: the chains of all networks."""

    Chains: tuple[ChainInfo, ...]


@dataclass(frozen=True)
class WayInfo:
    """How packets of overlays get to a peer by a UDP port. State: as overlay/ways.py has it."""

    Peer: str
    Port: int
    State: State


@dataclass(frozen=True)
class WaysAnswer:
    """Ways.List: all peers, as they were last tried. InSoftware: no device computes checksums any more."""

    InSoftware: bool
    Ways: tuple[WayInfo, ...]


@dataclass(frozen=True)
class FlowInfo:
    """A tracked connection of a container. To, ToPort: where its packets go once they are translated.

    State: of a TCP connection, else answered or unanswered. Packets, Bytes: both ways; None: the kernel does not count
    them (net.netfilter.nf_conntrack_acct). SourceEndpoint, ToEndpoint: the endpoint there, "": none of this host's.
    """

    Protocol: str
    Source: str
    SourcePort: int
    Destination: str
    DestinationPort: int
    To: str
    ToPort: int
    State: str
    Packets: int | None
    Bytes: int | None
    SourceEndpoint: str
    ToEndpoint: str


@dataclass(frozen=True)
class FlowsAnswer:
    """Flows.List: 500 at most, those that carried most first. More: how many there are besides.

    IsWhole: all that the kernel tracks was looked at, and not the first 50 000 alone.
    """

    Flows: tuple[FlowInfo, ...]
    More: int
    IsWhole: bool


@dataclass(frozen=True)
class EtcdInfo:
    """How etcd fares. AnsweredAt: when it last did, None: never yet. TookMs: how long a small question took it then.

    Failure: why it is not followed now, "": it is. AheadS: by how many seconds its clock is before this host's.
    """

    AnsweredAt: datetime | None
    TookMs: int
    Failure: str
    AheadS: int = 0


@dataclass(frozen=True)
class ServiceAnswer:
    """Service.Inspect. Unfinished: records whose last move did not come to its end, as KIND ID.

    Etcd: None on a host of no cluster.
    """

    Version: str
    Firewall: str
    Unfinished: tuple[str, ...]
    LastReconcile: ReconcileAnswer | None
    Etcd: EtcdInfo | None = None


@dataclass(frozen=True)
class PublishRequest:
    """Ports.Publish: HostPort to HostPortEnd (0: that one alone) lead to the endpoint's from Port on.

    Address: of the host, "" for what the network's options say. From: as publish_from, "" for what the network's say.
    Seconds: how long, 0 for as long as the container runs.
    """

    NetworkID: str
    EndpointID: str
    Protocol: Literal["tcp", "udp", "sctp"]
    HostPort: int
    Port: int
    HostPortEnd: int = 0
    Address: str = ""
    From: str = ""
    Seconds: float = 0


@dataclass(frozen=True)
class UnpublishRequest:
    """Ports.Unpublish: the ports of which the first is HostPort."""

    NetworkID: str
    EndpointID: str
    Protocol: Literal["tcp", "udp", "sctp"]
    HostPort: int


@dataclass(frozen=True)
class ExplainRequest:
    """Packets.Explain. Source "": the host. ToHost: the destination is an address of the host's. Port 0: none."""

    Source: str
    Destination: str
    ToHost: bool
    Protocol: Literal["tcp", "udp", "sctp", "icmp"]
    Port: int


@dataclass(frozen=True)
class ExplainAnswer:
    """What becomes of the packet, and why, step by step."""

    Verdict: str
    Steps: tuple[str, ...]


def span(first: int, last: int) -> str:
    """Return a run of ports as people write it."""
    return str(first) if first == last else f"{first}-{last}"
