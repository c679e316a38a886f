"""Every request and answer of NetworkDriver, spelled as Docker spells them.

Source: docs/protocol.md; moby libnetwork/drivers/remote/api/api.go. What Go omits or sends as null is optional.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

ScopeName = Literal["local", "global"]


@dataclass(frozen=True)
class IPAMData:
    """One subnet of a network, as the engine's IPAM gave it."""

    Pool: str = ""
    Gateway: str = ""
    AddressSpace: str = ""
    AuxAddresses: dict[str, Any] | None = None


@dataclass(frozen=True)
class CreateNetworkRequest:
    """NetworkDriver.CreateNetwork and, with string options only, AllocateNetwork."""

    NetworkID: str
    Options: dict[str, Any] | None = None
    IPv4Data: list[IPAMData] | None = None
    IPv6Data: list[IPAMData] | None = None


@dataclass(frozen=True)
class NetworkRequest:
    """NetworkDriver.DeleteNetwork, FreeNetwork."""

    NetworkID: str


@dataclass(frozen=True)
class GwAllocCheckRequest:
    """NetworkDriver.GwAllocCheck."""

    Options: dict[str, Any] | None = None


@dataclass(frozen=True)
class EndpointInterface:
    """What is known of an endpoint's interface; "" is not known."""

    Address: str = ""
    AddressIPv6: str = ""
    MacAddress: str = ""


@dataclass(frozen=True)
class CreateEndpointRequest:
    """NetworkDriver.CreateEndpoint. The port map is among the options, for nobody to read: each stays undecoded."""

    NetworkID: str
    EndpointID: str
    Interface: EndpointInterface | None = None
    Options: dict[str, msgspec.Raw] | None = None


@dataclass(frozen=True)
class EndpointRequest:
    """NetworkDriver.DeleteEndpoint, EndpointOperInfo, Leave, RevokeExternalConnectivity."""

    NetworkID: str
    EndpointID: str


@dataclass(frozen=True)
class JoinRequest:
    """NetworkDriver.Join. Its options are those of CreateEndpoint once more, and are not looked at."""

    NetworkID: str
    EndpointID: str
    SandboxKey: str


class PortBinding(msgspec.Struct, frozen=True, gc=False):
    """One entry of com.docker.network.portmap. HostPort 0: any port; HostPort < HostPortEnd: one out of that range.

    No dataclass: of these ten thousand come at once, and the garbage collector would count every one.
    """

    Proto: int
    Port: int
    IP: str = ""
    HostIP: str = ""
    HostPort: int = 0
    HostPortEnd: int = 0


@dataclass(frozen=True)
class PublishedRun:
    """One entry of the port map in the answer to EndpointOperInfo: Port + n is open at HostPort + n, to the ends."""

    Proto: int
    Port: int
    PortEnd: int
    HostIP: str
    HostPort: int
    HostPortEnd: int


@dataclass(frozen=True)
class ExternalConnectivityRequest:
    """NetworkDriver.ProgramExternalConnectivity. Of its options only the port map is decoded, once."""

    NetworkID: str
    EndpointID: str
    Options: dict[str, msgspec.Raw] | None = None


AboutEndpoint = EndpointRequest | JoinRequest | ExternalConnectivityRequest


@dataclass(frozen=True)
class DiscoveryRequest:
    """NetworkDriver.DiscoverNew, DiscoverDelete."""

    DiscoveryType: int
    DiscoveryData: Any = None


@dataclass(frozen=True)
class Capabilities:
    """Answer to GetCapabilities. ConnectivityScope global: the engine tells of a swarm's nodes, and of their names."""

    Scope: ScopeName
    ConnectivityScope: ScopeName
    GwAllocChecker: bool = True


@dataclass(frozen=True)
class CreateEndpointAnswer:
    """Answer to CreateEndpoint: only what the request left open."""

    Interface: EndpointInterface


@dataclass(frozen=True)
class InterfaceName:
    """The link that the engine moves into the sandbox, and the prefix of its name there."""

    SrcName: str
    DstPrefix: str


@dataclass(frozen=True)
class StaticRoute:
    """A route in the sandbox. RouteType 0: by NextHop; 1: on the link."""

    Destination: str
    RouteType: int
    NextHop: str


@dataclass(frozen=True)
class JoinAnswer:
    """Answer to Join. Without a gateway and without DisableGatewayService dockerd would add docker_gwbridge."""

    InterfaceName: InterfaceName
    Gateway: str = ""
    GatewayIPv6: str = ""
    StaticRoutes: list[StaticRoute] = field(default_factory=list)
    DisableGatewayService: bool = True


@dataclass(frozen=True)
class GwAllocCheckAnswer:
    """Answer to GwAllocCheck: whether the engine need not reserve a gateway address."""

    SkipIPv4: bool = False
    SkipIPv6: bool = False


@dataclass(frozen=True)
class AllocateNetworkAnswer:
    """Answer to AllocateNetwork: options handed to CreateNetwork on each node."""

    Options: dict[str, str]
