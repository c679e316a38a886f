"""What a record means to the kernel. Pure: the same record gives the same resources, always."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network
from typing import Any

from netplugin import wire
from netplugin.firewall.backends import Backend
from netplugin.firewall.policy import endpoint_openings, gateway_mode, network_policies
from netplugin.kinds import ENDPOINTS, NETWORKS, REMOTE_ENDPOINTS, REMOTE_HOSTS
from netplugin.options import EndpointOptions, NetworkOptions
from netplugin.overlay.plan import gateway_mac, plan_overlay, plan_own_endpoint, plan_remote_endpoint, plan_remote_host
from netplugin.records import Endpoint, Network, RemoteEndpoint, RemoteHost
from netplugin.resources import (
    Bridge,
    Family,
    Forwarding,
    HostPorts,
    Redirect,
    Shaper,
    SourceGuard,
    Sysctl,
    Veth,
    endpoint_ifb,
    network_ifb,
)
from pluginkit.reconcile import Planned, Resource


@dataclass(frozen=True)
class Plans:
    """The kinds of records of the network driver, parents first, each with what it means."""

    networks: Planned[Network]
    endpoints: Planned[Endpoint]
    remote_hosts: Planned[RemoteHost]
    remote_endpoints: Planned[RemoteEndpoint]

    @property
    def remotes(self) -> tuple[Planned[Any], ...]:
        """Those of which the cluster tells."""
        return (self.remote_hosts, self.remote_endpoints)

    @property
    def all(self) -> tuple[Planned[Any], ...]:
        """All of them."""
        return (self.networks, self.endpoints, *self.remotes)


def plans(backend: Backend) -> Plans:
    """Return the kinds of records with what they mean under a firewall backend."""
    return Plans(
        Planned(NETWORKS, lambda network, _: plan_network(network, backend)),
        Planned(ENDPOINTS, lambda endpoint, network: plan_endpoint(endpoint, network, backend), parent=NETWORKS),
        Planned(REMOTE_HOSTS, plan_remote_host, parent=NETWORKS),
        Planned(
            REMOTE_ENDPOINTS,
            lambda endpoint, network: plan_remote_endpoint(endpoint, network, bridge_name(network)),
            parent=NETWORKS,
        ),
    )


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
            gateway_mac(network, network.overlay) if network.overlay else _bridge_mac(network.id),
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
        if policy.family == "ipv4":
            # A switch of its own, besides the host's; IPv6 has none that is heeded.
            resources.append(Sysctl(f"net/ipv4/conf/{bridge}/forwarding", "1"))
        if policy.family == "ipv4" and policy.translate:
            resources.append(Sysctl(f"net/ipv4/conf/{bridge}/route_localnet", "1"))
    for policy in policies:
        resources += backend.network(policy)
    resources += _shaped(bridge, network_ifb(network.id), network.options)
    if network.overlay is not None:
        # Last, so that nobody comes in from elsewhere before the rules are there.
        own = tuple(address.ip for address in _bridge_addresses(network))
        resources += plan_overlay(network, network.overlay, bridge, own)
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
            hairpin=bool(endpoint.published),
            isolated=not network.options.icc,
            alias=f"pynet endpoint {endpoint.id}",
        ),
        # The end in the bridge is a port, not a host: it needs no address, so no link-local one either.
        Sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "1", optional=True),
    ]
    resources += _shaped(name, endpoint_ifb(endpoint.id), endpoint.options)
    resources += _redirected(name, endpoint, network)
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
    return (*resources, *plan_own_endpoint(endpoint, network, bridge_name(network)))


def gateway_of(network: Network, family: Family, address: IPv4Interface | IPv6Interface | None) -> str:
    """Return the gateway of the subnet that holds `address`; "" if there is none or it leads nowhere."""
    if address is None or network.internal or gateway_mode(network, family) == "isolated":
        return ""
    subnets = (subnet for subnet in network.subnets if address.ip in subnet.pool)
    return next((str(subnet.router or subnet.gateway or "") for subnet in subnets), "")


def static_routes(network: Network, endpoint: Endpoint) -> list[wire.StaticRoute]:
    """Return the network's routes in the families that the endpoint has; not those that lead to the endpoint itself."""
    addresses = [address for address in (endpoint.address4, endpoint.address6) if address is not None]
    versions = {address.version for address in addresses}
    own = {str(address.ip) for address in addresses}
    return [
        wire.StaticRoute(route.destination, 0 if route.next_hop else 1, route.next_hop)
        for route in network.options.routes
        if ip_network(route.destination).version in versions and route.next_hop not in own
    ]


def _shaped(link: str, ifb: str, options: NetworkOptions | EndpointOptions) -> list[Resource]:
    """Return what holds a link to the rates of `options`; the device that queues needs no address either."""
    if options.egress_rate is None and options.ingress_rate is None:
        return []
    shaped: list[Resource] = [Shaper(link, ifb, options.egress_rate, options.ingress_rate, options.burst)]
    if options.egress_rate is not None:
        shaped.append(Sysctl(f"net/ipv6/conf/{ifb}/disable_ipv6", "1", optional=True))
    return shaped


def _redirected(link: str, endpoint: Endpoint, network: Network) -> list[Resource]:
    """Return where frames of the endpoint go before they enter the bridge, which is one place at most.

    Its own queue, or that of its network, or, where ports are isolated, the host, which leads published ports back.
    """
    bridge = bridge_name(network)
    if endpoint.options.egress_rate is not None:
        return [Redirect(link, endpoint_ifb(endpoint.id))]
    if network.options.egress_rate is not None:
        return [Redirect(link, network_ifb(network.id), bridge)]
    if network.options.icc or network.internal:
        return []
    addresses = tuple(interface.ip for interface in (endpoint.address4, endpoint.address6) if interface)
    return [Redirect(link, bridge, bridge, endpoint.mac, addresses)]


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
