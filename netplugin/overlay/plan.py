"""What the overlay of a network means to the kernel, on this host. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from netplugin.dns.resources import Named, NameServer
from netplugin.overlay.decide import OVERHEAD_BYTES
from netplugin.overlay.tunnel import Tunnel, TunnelPeer
from netplugin.records import Endpoint, Network, Overlay, RemoteEndpoint, RemoteHost
from netplugin.resources import (
    FdbEntry,
    Neighbour,
    OverlayGuard,
    OverlayMember,
    OverlayProbes,
    Sysctl,
    Vxlan,
)
from pluginkit.reconcile import Resource

# The entry of this address leads to where frames go that nobody knows a place for, and those for all.
EVERYBODY = "00:00:00:00:00:00"


def device_name(network_id: str) -> str:
    """Return the name of the network's VXLAN device."""
    return f"pnx{network_id[:8]}"


def plan_overlay(
    network: Network, overlay: Overlay, bridge: str, own: tuple[IPv4Address | IPv6Address, ...]
) -> tuple[Resource, ...]:
    """Return the device in the bridge, who may send to it, to whom it sends, DNS at the bridge's `own` addresses."""
    device = device_name(network.id)
    asked = own if network.options.dns else ()
    pools = tuple(subnet.pool for subnet in network.subnets)
    return (
        # First, so that there is no moment at which a stranger's frames come in, or anything leaves in the clear.
        OverlayGuard(
            device,
            gateway_mac(network, overlay),
            overlay.vni,
            overlay.port,
            network.options.multicast,
            asked,
        ),
        *([Tunnel(overlay.vtep, network.mtu + OVERHEAD_BYTES[6])] if network.options.encrypted else []),
        Vxlan(
            name=device,
            bridge=bridge,
            vni=overlay.vni,
            port=overlay.port,
            local=overlay.vtep,
            mtu=network.mtu,
            learning=not overlay.name,
            isolated=not network.options.icc,
            alias=f"pynet network {network.id}",
        ),
        # A port of the bridge is no host: it needs no address, so no link-local one either.
        Sysctl(f"net/ipv6/conf/{device}/disable_ipv6", "1", optional=True),
        # Isolated ports hear no probe, wherever it comes from.
        *([OverlayProbes(device, bridge)] if network.options.icc else []),
        *(want for peer in overlay.peers for want in _peer(network, overlay, peer)),
        *([NameServer(bridge, asked, network.options.name.lower(), pools)] if asked else []),
    )


def plan_remote_host(host: RemoteHost, network: Network) -> tuple[Resource, ...]:
    """Return what lets the host send to the network, and lets it have what is for everybody."""
    if network.overlay is None:
        return ()
    key = [TunnelPeer(host.vtep, host.public_key, host.endpoint)] if network.options.encrypted else []
    return (*key, *_peer(network, network.overlay, host.vtep))


def plan_remote_endpoint(endpoint: RemoteEndpoint, network: Network, bridge: str) -> tuple[Resource, ...]:
    """Return where frames to the endpoint go, and who answers for its addresses."""
    return (
        FdbEntry(device_name(network.id), endpoint.mac, endpoint.vtep),
        *_plan_answers(endpoint, bridge),
        *_plan_names(endpoint, network, bridge),
    )


def plan_own_endpoint(endpoint: Endpoint, network: Network, bridge: str) -> tuple[Resource, ...]:
    """Return what keeps questions for an endpoint of this host on this host, and who answers for its names."""
    answers = _plan_answers(endpoint, bridge) if network.overlay and network.overlay.name else ()
    return (*answers, *_plan_names(endpoint, network, bridge))


def _plan_answers(endpoint: Endpoint | RemoteEndpoint, bridge: str) -> Iterator[Neighbour]:
    for address in (endpoint.address4, endpoint.address6):
        if address is not None:
            yield Neighbour(bridge, address.ip, endpoint.mac)


def _plan_names(endpoint: Endpoint | RemoteEndpoint, network: Network, bridge: str) -> tuple[Named, ...]:
    """Return what is answered to who asks for the endpoint's container by name."""
    if not network.options.dns or not endpoint.names:
        return ()
    addresses = (endpoint.address4, endpoint.address6)
    return tuple(Named(bridge, address.ip, endpoint.names) for address in addresses if address is not None)


def gateway_mac(network: Network, overlay: Overlay) -> str:
    """Return the MAC address of the bridge, made of the gateways' addresses.

    Hosts that share the gateway's address share its MAC address too, so that a container finds its gateway wherever it
    is; hosts with gateways of their own are different neighbours.
    """
    gateways = ",".join(str(subnet.gateway) for subnet in network.subnets)
    digest = hashlib.sha256(f"{overlay.vni} {gateways}".encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))


def _peer(network: Network, overlay: Overlay, vtep: str) -> tuple[Resource, ...]:
    device = device_name(network.id)
    return OverlayMember(device, overlay.vni, overlay.port, vtep), FdbEntry(device, EVERYBODY, vtep)
