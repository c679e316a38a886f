"""What a record means to the kernel. Pure: the same record gives the same resources, always."""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from netplugin.firewall.backends import Backend
from netplugin.firewall.policy import endpoint_openings, gateway_mode, network_policies
from netplugin.options import EndpointOptions, NetworkOptions
from netplugin.records import Endpoint, Network
from netplugin.resources import (
    Bridge,
    Family,
    Forwarding,
    HostPorts,
    Shaper,
    SourceGuard,
    Sysctl,
    Veth,
    endpoint_ifb,
    network_ifb,
)
from pluginkit.reconcile import Resource


def bridge_name(network: Network) -> str:
    """Return the name of the network's bridge."""
    return network.options.bridge_name or f"pn-{network.id[:8]}"


def veth_names(endpoint_id: str) -> tuple[str, str]:
    """Return the names of an endpoint's pair: the end that stays, and the end that the engine moves."""
    return f"pnv{endpoint_id[:8]}", f"pnc{endpoint_id[:8]}"


def plan_network(network: Network, backend: Backend) -> tuple[Resource, ...]:
    """Return the bridge, what lets it route, and its rules."""
    bridge = bridge_name(network)
    has6 = bool(network.subnets6) and gateway_mode(network, "ipv6") != "isolated"
    policies = network_policies(network, bridge)
    resources: list[Resource] = [
        Bridge(
            bridge,
            _bridge_mac(network.id),
            network.mtu,
            _bridge_addresses(network),
            f"pynet network {network.id}",
            network.adopted,
        ),
    ]
    if not network.adopted:
        # Without an IPv6 subnet the bridge must not have a link-local address by which containers reach the host.
        resources.append(Sysctl(f"net/ipv6/conf/{bridge}/disable_ipv6", "0" if has6 else "1", optional=not has6))
        if has6:
            # The host decides where it goes, no router advertisement from a container does.
            resources.append(Sysctl(f"net/ipv6/conf/{bridge}/accept_ra", "0"))
    for policy in policies:
        if policy.enter == "none":
            continue
        resources.append(Forwarding(policy.family))
        if policy.family == "ipv4" and policy.translate:
            resources.append(Sysctl(f"net/ipv4/conf/{bridge}/route_localnet", "1"))
    for policy in policies:
        resources += backend.network(policy)
    resources += _shaped(bridge, network_ifb(network.id), network.options)
    return tuple(resources)


def plan_endpoint(endpoint: Endpoint, network: Network, backend: Backend) -> tuple[Resource, ...]:
    """Return the pair, the host ports held and the rules that lead to them."""
    name, peer = veth_names(endpoint.id)
    resources: list[Resource] = [
        Veth(
            name=name,
            peer=peer,
            peer_mac=endpoint.mac,
            bridge=bridge_name(network),
            mtu=network.mtu,
            hairpin=bool(endpoint.ports),
            isolated=not network.options.icc,
            alias=f"pynet endpoint {endpoint.id}",
        ),
        # The end in the bridge is a port, not a host: it needs no address, so no link-local one either.
        Sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "1", optional=True),
    ]
    resources += _shaped(name, endpoint_ifb(endpoint.id), endpoint.options)
    if network.options.anti_spoof:
        resources.append(
            SourceGuard(
                name,
                endpoint.mac,
                (endpoint.address4.ip,) if endpoint.address4 else (),
                (endpoint.address6.ip,) if endpoint.address6 else (),
            )
        )
    opened = [
        (policy, endpoint_openings(endpoint, policy)) for policy in network_policies(network, bridge_name(network))
    ]
    # No rule leads to a port before all of them are held.
    resources += [
        HostPorts(opening.protocol, opening.host, opening.host_port, endpoint.id, opening.count)
        for _, openings in opened
        for opening in openings
        if opening.host is not None
    ]
    for policy, openings in opened:
        resources += backend.endpoint(endpoint.id, policy, openings)
    return tuple(resources)


def _shaped(link: str, ifb: str, options: NetworkOptions | EndpointOptions) -> list[Resource]:
    """Return what holds a link to the rates of `options`; the device that queues needs no address either."""
    if options.egress_rate is None and options.ingress_rate is None:
        return []
    shaped: list[Resource] = [Shaper(link, ifb, options.egress_rate, options.ingress_rate, options.burst)]
    if options.egress_rate is not None:
        shaped.append(Sysctl(f"net/ipv6/conf/{ifb}/disable_ipv6", "1", optional=True))
    return shaped


def _bridge_addresses(network: Network) -> tuple[IPv4Interface | IPv6Interface, ...]:
    wanted = (
        ip_interface((subnet.gateway, subnet.pool.prefixlen))
        for subnet in network.subnets
        if subnet.gateway is not None and _has_address(network, "ipv4" if subnet.pool.version == 4 else "ipv6")
    )
    # What was there before belongs to whoever made the bridge: it is neither restored nor taken away.
    return tuple(address for address in wanted if str(address) not in network.kept)


def _has_address(network: Network, family: Family) -> bool:
    """Tell whether the host has an address on the bridge, so that the gateway is the host."""
    if gateway_mode(network, family) == "isolated":
        return False
    return not (family == "ipv4" and network.options.inhibit_ipv4)


def _bridge_mac(network_id: str) -> str:
    """Return a locally administered address that depends on the ID alone, so that a re-made bridge keeps it."""
    digest = hashlib.sha256(network_id.encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))
