"""What the cases play on: networks and endpoints by name, and who makes them. Tables here, makers elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from netplugin.conform.case import Kind
from netplugin.conform.place import Place

_BRIDGE = "com.docker.network.bridge."


@dataclass(frozen=True)
class Port:
    """A port map, or a run of them. host_ip: one of the host's addresses alone, of the family of that."""

    protocol: str
    container: int
    host: int
    count: int = 1
    host_ip: str = ""


@dataclass(frozen=True)
class NetworkPlan:
    """A network. needs: what a driver must offer beyond Docker's own options."""

    options: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    needs: str = ""


@dataclass(frozen=True)
class EndpointPlan:
    """An endpoint. far: on the other host, of a stage that has one."""

    network: str
    ports: tuple[Port, ...] = ()
    far: bool = False


@dataclass(frozen=True)
class Wire:
    """Addresses outside. ghost: no host's own, but frames to it arrive at `outside`. narrow: behind an MTU of 1300."""

    host: str
    outside: str
    peer: str
    member: str
    stranger: str
    ghost: str
    narrow: str
    narrow_net: str
    bits: int


def _wire(prefix: str, narrow_prefix: str, bits: int) -> Wire:
    host, outside, peer, member, stranger, ghost = (f"{prefix}{number}" for number in (1, 2, 3, 4, 5, 9))
    narrow_net = f"{narrow_prefix}{'0' if bits == 24 else ''}/{bits}"
    return Wire(host, outside, peer, member, stranger, ghost, f"{narrow_prefix}2", narrow_net, bits)


# For benchmarks of networks (RFC 2544), and unique local ones.
WIRES = MappingProxyType({4: _wire("198.18.0.", "198.18.1.", 24), 6: _wire("fd98::", "fd98:1::", 64)})
NARROW_MTU = 1300
RATE_BITS = 16_000_000

NETWORKS = MappingProxyType(
    {
        "lan": NetworkPlan(),
        "other": NetworkPlan(),
        "closed": NetworkPlan(internal=True),
        "apart": NetworkPlan({f"{_BRIDGE}enable_icc": "false"}),
        "routed": NetworkPlan({f"{_BRIDGE}gateway_mode_ipv4": "routed", f"{_BRIDGE}gateway_mode_ipv6": "routed"}),
        "open": NetworkPlan(
            {f"{_BRIDGE}gateway_mode_ipv4": "nat-unprotected", f"{_BRIDGE}gateway_mode_ipv6": "nat-unprotected"}
        ),
        "plain": NetworkPlan({f"{_BRIDGE}enable_ip_masquerade": "false"}),
        "guarded": NetworkPlan({"anti_spoof": "true"}, needs="anti_spoof"),
        "shaped": NetworkPlan({"egress_rate": "16mbit", "ingress_rate": "16mbit"}, needs="rates"),
        "chosen": NetworkPlan({"publish_from": f"{WIRES[4].outside}/32,{WIRES[6].outside}/128"}, needs="publish_from"),
    }
)
ENDPOINTS = MappingProxyType(
    {
        "ann": EndpointPlan(
            "lan",
            (
                Port("tcp", 80, 8080),
                Port("udp", 53, 5353),
                Port("udp", 9000, 9000, count=10),
                Port("udp", 54, 5454, host_ip=WIRES[4].host),
                Port("udp", 54, 5454, host_ip=WIRES[6].host),
                Port("udp", 55, 5555, host_ip="127.0.0.1"),
                Port("tcp", 55, 5555, host_ip="127.0.0.1"),
            ),
        ),
        "bob": EndpointPlan("lan", (Port("tcp", 80, 8090), Port("udp", 53, 5390))),
        "far": EndpointPlan("lan", far=True),
        "cat": EndpointPlan("other", (Port("tcp", 80, 8081), Port("udp", 53, 5381))),
        "dan": EndpointPlan("closed", (Port("udp", 53, 5386),)),
        "eve": EndpointPlan("closed"),
        "fay": EndpointPlan("apart", (Port("tcp", 80, 8082), Port("udp", 53, 5382))),
        "gus": EndpointPlan("apart"),
        "hal": EndpointPlan("guarded"),
        "ida": EndpointPlan("guarded"),
        "jim": EndpointPlan("routed", (Port("udp", 53, 5383),)),
        "kim": EndpointPlan("open"),
        "lea": EndpointPlan("plain"),
        "mia": EndpointPlan("shaped"),
        "ned": EndpointPlan("chosen", (Port("udp", 53, 5384),)),
        # Apart from ann's: not every kernel has SCTP, and Docker's own driver then starts no such container.
        "sue": EndpointPlan("lan", (Port("sctp", 7000, 7001),)),
        # They come and go.
        "eva": EndpointPlan("lan", (Port("udp", 53, 5385),)),
        "fin": EndpointPlan("lan", (Port("udp", 53, 5385),)),
    }
)


@dataclass(frozen=True)
class Endpoint:
    """A container as its network sees it. Addresses and gateways by IP version; "": it has none."""

    name: str
    network: str
    place: Place
    addresses: Mapping[int, str]
    gateways: Mapping[int, str]


class Stage(Protocol):
    """Networks of one driver on one host, with somebody outside on its wire. What is asked for is made then."""

    driver: str
    kind: Kind
    offers: frozenset[str]
    host: Place
    outside: Place

    def endpoint(self, name: str) -> Endpoint:
        """Return the endpoint of that name, which there is from now on.

        Raises: NotOffered: the driver has no such network.
        """

    def leave(self, name: str) -> None:
        """There is no endpoint of that name."""
