"""What a record means to the kernel. Pure: the same record gives the same resources, always."""

from __future__ import annotations

import hashlib
from ipaddress import ip_interface

from netplugin.firewall import endpoint_rules, network_rules
from netplugin.records import Endpoint, Network
from netplugin.resources import Bridge, Family, HostPort, Sysctl, Veth
from pluginkit.reconcile import Resource

FAMILIES: tuple[Family, ...] = ("ipv4", "ipv6")


def bridge_name(network: Network) -> str:
    """Return the name of the network's bridge."""
    return f"pn-{network.id[:8]}"


def veth_names(endpoint_id: str) -> tuple[str, str]:
    """Return the names of an endpoint's pair: the end that stays, and the end that the engine moves."""
    return f"pnv{endpoint_id[:8]}", f"pnc{endpoint_id[:8]}"


def plan_network(network: Network, _parent: None) -> tuple[Resource, ...]:
    """Return the bridge, what lets it route, and its rules."""
    bridge = bridge_name(network)
    has6 = bool(network.subnets6)
    gateways = tuple(
        ip_interface((subnet.gateway, subnet.pool.prefixlen))
        for subnet in network.subnets
        if subnet.gateway is not None
    )
    resources: list[Resource] = [
        Bridge(bridge, _bridge_mac(network.id), network.options.mtu, gateways, f"pynet network {network.id}"),
        # Without an IPv6 subnet the bridge must not have a link-local address by which containers reach the host.
        Sysctl(f"net/ipv6/conf/{bridge}/disable_ipv6", "0" if has6 else "1", optional=not has6),
    ]
    if has6:
        # The host decides where it goes, no router advertisement from a container does.
        resources.append(Sysctl(f"net/ipv6/conf/{bridge}/accept_ra", "0"))
    if not network.internal:
        resources.append(Sysctl("net/ipv4/ip_forward", "1"))
        resources.append(Sysctl(f"net/ipv4/conf/{bridge}/route_localnet", "1"))
        if has6:
            resources.append(Sysctl("net/ipv6/conf/all/forwarding", "1"))
    resources += [network_rules(network, bridge, family) for family in _families(network)]
    return tuple(resources)


def plan_endpoint(endpoint: Endpoint, network: Network) -> tuple[Resource, ...]:
    """Return the pair, the host ports held and the rules that lead to them."""
    name, peer = veth_names(endpoint.id)
    resources: list[Resource] = [
        Veth(
            name=name,
            peer=peer,
            peer_mac=endpoint.mac,
            bridge=bridge_name(network),
            mtu=network.options.mtu,
            hairpin=bool(endpoint.ports),
            isolated=not network.options.icc,
            alias=f"pynet endpoint {endpoint.id}",
        ),
        # The end in the bridge is a port, not a host: it needs no address, so no link-local one either.
        Sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "1", optional=True),
    ]
    for port in endpoint.ports:
        hosts = [host for host in (port.host4, port.host6) if host is not None]
        resources += [HostPort(port.protocol, host, port.host_port, endpoint.id) for host in hosts]
    for family in FAMILIES:
        rules = endpoint_rules(endpoint, family)
        if rules is not None:
            resources.append(rules)
    return tuple(resources)


def _families(network: Network) -> list[Family]:
    return [family for family, subnets in zip(FAMILIES, (network.subnets4, network.subnets6), strict=True) if subnets]


def _bridge_mac(network_id: str) -> str:
    """Return a locally administered address that depends on the ID alone, so that a re-made bridge keeps it."""
    digest = hashlib.sha256(network_id.encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))
