"""What is wanted of the firewall, in no backend's words: a policy for each network and family, openings for ports."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Literal

from netplugin.options import GatewayMode
from netplugin.records import Endpoint, Network, Protocol
from netplugin.resources import Family
from netplugin.values import LOCALHOST

FAMILIES: tuple[Family, ...] = ("ipv4", "ipv6")

# Bridges of other container drivers, by the names that they give. "+" as the last character stands for any ending.
FOREIGN_BRIDGES = ("docker0", "docker_gwbridge", "br-+", "cni+", "podman+")

Address = IPv4Address | IPv6Address
Traffic = Literal["published", "all", "none"]


@dataclass(frozen=True)
class Policy:
    """How one network and family is connected to the rest.

    enter: what may come in from outside. translate: published ports are ports of the host, and the network's own
    addresses stay inside unless masquerade is false. source: the address that masqueraded traffic carries; None: that
    of the way out. trusted: interfaces from which everything may enter. sources: who reaches published ports; (): all.
    icc: what comes from the network itself may enter it, published or not.
    """

    family: Family
    owner: str
    bridge: str
    pools: tuple[str, ...]
    enter: Traffic
    translate: bool
    masquerade: bool
    source: Address | None
    trusted: tuple[str, ...]
    sources: tuple[str, ...]
    icc: bool


@dataclass(frozen=True)
class Opening:
    """A run of `count` ports that lead to a container. host: None: the container's own address, no port of the host.

    sources: who may use them; (): everybody.
    """

    protocol: Protocol
    host: Address | None
    host_port: int
    container: Address
    container_port: int
    count: int
    sources: tuple[str, ...] = ()


def network_policies(network: Network, bridge: str) -> tuple[Policy, ...]:
    """Return the policy of each family that the network has."""
    return tuple(_policy(network, bridge, family) for family in FAMILIES if _pools(network, family))


def endpoint_openings(endpoint: Endpoint, policy: Policy) -> tuple[Opening, ...]:
    """Return the openings of the endpoint's ports in the family of `policy`."""
    interface = endpoint.address4 if policy.family == "ipv4" else endpoint.address6
    if interface is None or policy.enter == "none":
        return ()
    openings = []
    runs = [(port, policy.sources) for port in endpoint.ports]
    runs += [(each.port, _of_family(each.sources, policy.family) or policy.sources) for each in endpoint.publications]
    for port, sources in runs:
        host = port.host4 if policy.family == "ipv4" else port.host6
        if host is not None:
            openings.append(
                Opening(
                    port.protocol,
                    host if policy.translate else None,
                    port.host_port,
                    interface.ip,
                    port.container_port,
                    port.count,
                    sources,
                )
            )
    return tuple(openings)


def gateway_mode(network: Network, family: Family) -> GatewayMode:
    """Return the mode of the network in `family`."""
    return network.options.gateway_mode_ipv4 if family == "ipv4" else network.options.gateway_mode_ipv6


def _policy(network: Network, bridge: str, family: Family) -> Policy:
    mode = gateway_mode(network, family)
    closed = network.internal or mode == "isolated"
    enter: Traffic = "none" if closed else "all" if mode == "nat-unprotected" else "published"
    translate = not closed and mode != "routed"
    options = network.options
    return Policy(
        family=family,
        owner=f"n{network.id[:8]}",
        bridge=bridge,
        pools=_pools(network, family),
        enter=enter,
        translate=translate,
        masquerade=translate and options.masquerade,
        source=options.host_ipv4 if family == "ipv4" else options.host_ipv6,
        trusted=options.trusted_host_interfaces,
        sources=_of_family(options.publish_from, family),
        icc=options.icc,
    )


def _pools(network: Network, family: Family) -> tuple[str, ...]:
    subnets = network.subnets4 if family == "ipv4" else network.subnets6
    return tuple(str(subnet.pool) for subnet in subnets)


def _of_family(sources: tuple[str, ...], family: Family) -> tuple[str, ...]:
    version = 4 if family == "ipv4" else 6
    kept = tuple(source for source in sources if source == LOCALHOST or ip_network(source).version == version)
    # Restricted to networks of the other family alone: nobody of this one, which must not look like "everybody".
    return kept if kept or not sources else (LOCALHOST,)
