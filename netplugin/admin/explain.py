"""Whether a packet gets where it should, and what decides that: the policies that the rules are made of, walked. Pure.

The rules of others, such as the host's own firewall, are not looked at; where they decide, that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Literal

from netplugin.firewall.policy import Opening, Policy, endpoint_openings, gateway_mode, network_policies
from netplugin.plan import bridge_name
from netplugin.records import Endpoint, Network, Protocol
from netplugin.values import LOCALHOST

Address = IPv4Address | IPv6Address
Verdict = Literal["passes", "dropped", "for others to decide"]


@dataclass(frozen=True)
class Packet:
    """The first packet of a flow. source: None: the host. to_host: the destination is an address of the host's.

    port: None: none, as ICMP has.
    """

    source: Address | None
    destination: Address
    to_host: bool
    protocol: Protocol | Literal["icmp"]
    port: int | None


@dataclass(frozen=True)
class Explanation:
    """What happens to a packet, step by step. A step names iptables' chain, then that of nftables."""

    verdict: Verdict
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """A network of ours in one family, with its endpoints on this host."""

    network: Network
    policy: Policy
    endpoints: tuple[Endpoint, ...]

    @property
    def name(self) -> str:
        """How it is spoken of here; who asked knows a better name."""
        return f"network {self.network.id[:12]}"


def places(networks: Sequence[tuple[Network, tuple[Endpoint, ...]]], version: int) -> tuple[Place, ...]:
    """Return the networks that there are in a family."""
    family = "ipv4" if version == 4 else "ipv6"
    return tuple(
        Place(network, policy, endpoints)
        for network, endpoints in networks
        for policy in network_policies(network, bridge_name(network))
        if policy.family == family
    )


def explain(packet: Packet, networks: Sequence[tuple[Network, tuple[Endpoint, ...]]]) -> Explanation:
    """Return what becomes of the packet on this host."""
    known = places(networks, packet.destination.version)
    source = _place_of(packet.source, known)
    if packet.to_host:
        return _to_host(packet, source, known)
    target = _place_of(packet.destination, known)
    if target is None:
        return _to_the_world(packet, source)
    return _into(packet, source, target, None)


def _to_host(packet: Packet, source: Place | None, known: tuple[Place, ...]) -> Explanation:
    if packet.destination.is_loopback and packet.source is not None:
        return _told("dropped", f"{packet.destination} of this host is nobody's but its own (PYNET-INPUT, host-…)")
    for place in known:
        for endpoint in place.endpoints:
            for opening in endpoint_openings(endpoint, place.policy):
                if _opens(opening, packet):
                    return _translated(packet, source, place, opening)
    where = f"{packet.destination} is this host's, and nothing of pynet's is published there"
    return _told("for others to decide", where, "what listens on the host answers, if its INPUT rules let it")


def _translated(packet: Packet, source: Place | None, place: Place, opening: Opening) -> Explanation:
    if not _may_use(packet.source, opening.sources):
        what = f"published for {', '.join(opening.sources)} alone, which {packet.source or 'the host'} is not"
        return _told("for others to decide", what, "it stays a packet for the host, where nobody listens on that port")
    port = opening.container_port + (packet.port or 0) - opening.host_port
    step = f"published: translated to {opening.container} port {port} of {place.name} (PYNET-DNAT, chain publish)"
    entered = _into(packet, source, place, opening)
    steps = (step, *entered.steps)
    if entered.verdict == "passes" and source is place:
        steps += ("carries the host's address from here on, so that answers come back this way (PYNET-SNAT, snat-to)",)
    return Explanation(entered.verdict, steps)


def _into(packet: Packet, source: Place | None, target: Place, opening: Opening | None) -> Explanation:
    """Return what becomes of a packet to a container of `target`. opening: that which translated it."""
    policy, name = target.policy, target.name
    to = f"PYNET-ENTER-{policy.owner}, to-{policy.owner}"
    if source is target and opening is None:
        if policy.icc:
            return _told("passes", f"both are on {name}: the bridge {policy.bridge} hands it over, no rule is asked")
        return _told("dropped", f"both are on {name}, whose ports are isolated from each other: enable_icc=false")
    if source is not None and source is not target and source.policy.enter == "none":
        return _closed(source)
    if packet.source is None:
        if gateway_mode(target.network, policy.family) == "isolated":
            return _told("dropped", f"the host has no address on {name}: its gateway mode is isolated")
        return _told("passes", f"the host reaches all containers of {name}")
    if opening is not None:
        return _told("passes", f"may enter {name}: it was translated ({to})")
    if policy.enter == "none":
        return _told("dropped", f"nothing enters {name}, which is internal or isolated ({to})")
    if policy.enter == "all":
        return _told("passes", f"everything may enter {name}: its gateway mode is nat-unprotected")
    if policy.translate:
        trusted = [f"unless it comes in by {', '.join(policy.trusted)}: trusted_host_interfaces"] * bool(policy.trusted)
        only = f"only what was published, at an address of the host, may enter {name} ({to})"
        return _told("dropped", only, *trusted)
    return _routed(packet, target, to)


def _routed(packet: Packet, target: Place, to: str) -> Explanation:
    if packet.protocol == "icmp":
        return _told("passes", f"ICMP may enter {target.name}: its gateway mode is routed ({to})")
    if not any(
        _leads(opening, packet) for each in target.endpoints for opening in endpoint_openings(each, target.policy)
    ):
        return _told("dropped", f"only published ports of containers may enter {target.name}: it is routed ({to})")
    if not _may_use(packet.source, target.policy.sources):
        return _told("dropped", f"published for {', '.join(target.policy.sources)} alone (publish_from; {to})")
    return _told("passes", f"may enter {target.name}, which is routed: the port is published ({to})")


def _to_the_world(packet: Packet, source: Place | None) -> Explanation:
    if source is None:
        return _told("for others to decide", "neither end is on a network of pynet's")
    policy = source.policy
    if policy.enter == "none":
        return _closed(source)
    where = f"PYNET-LEAVE-{policy.owner}, from-{policy.owner}"
    leaves = f"may leave {source.name}, unless to a bridge of another driver ({where})"
    if not policy.masquerade:
        return _told("passes", leaves, f"carries its own address, {packet.source}: answers need a route to it")
    carries = policy.source or "the host's address on the way out"
    return _told("passes", leaves, f"carries {carries} (PYNET-SNAT-{policy.owner}, snat-from-{policy.owner})")


def _closed(source: Place) -> Explanation:
    owner = source.policy.owner
    return _told(
        "dropped", f"nothing leaves {source.name}, which is internal or isolated (PYNET-CLOSED, closed-{owner})"
    )


def _opens(opening: Opening, packet: Packet) -> bool:
    """Tell whether the packet is for a port of the host that the opening is."""
    if opening.host is None or packet.port is None or opening.protocol != packet.protocol:
        return False
    is_at = opening.host.is_unspecified or opening.host == packet.destination
    return is_at and opening.host_port <= packet.port < opening.host_port + opening.count


def _leads(opening: Opening, packet: Packet) -> bool:
    """Tell whether the packet is for a port of a container that the opening leads to."""
    if packet.port is None or (opening.container, opening.protocol) != (packet.destination, packet.protocol):
        return False
    return opening.container_port <= packet.port < opening.container_port + opening.count


def _may_use(source: Address | None, sources: tuple[str, ...]) -> bool:
    """Tell whether `source`, None for the host, is one of those for whom ports are published."""
    if not sources:
        return True
    if source is None:
        return LOCALHOST in sources
    return any(each != LOCALHOST and source in ip_network(each) for each in sources)


def _place_of(address: Address | None, known: tuple[Place, ...]) -> Place | None:
    if address is None:
        return None
    return next((place for place in known if any(address in ip_network(pool) for pool in place.policy.pools)), None)


def _told(verdict: Verdict, *steps: str) -> Explanation:
    return Explanation(verdict, steps)
