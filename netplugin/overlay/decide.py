"""What is decided once, when an overlay network is made: its VNI, its place in the underlay, its peers and its MTU."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import ip_address

from netplugin.machine import Address, Way
from netplugin.records import Network, Overlay
from pluginkit.errors import BadRequest, Unavailable

# Away from 1, which flannel takes, and from 4096 upwards, where Swarm begins.
DERIVED_VNIS = range(0x500000, 0x600000)
# Ethernet and VXLAN headers inside, UDP and IP headers outside. Source: RFC 7348 section 5.
OVERHEAD_BYTES = {4: 14 + 8 + 8 + 20, 6: 14 + 8 + 8 + 40}
LOWEST_MTU = 576
# The place in the underlay of what has none yet.
NOWHERE = "127.0.0.1"
# The way out for who asks for encryption where there is no etcd.
WITHOUT_KEYS = (
    "run pynet with PYNET_CLUSTER=etcd://HOST and leave -o peers out, or make a WireGuard link between the hosts, give"
    " its addresses as -o peers, and leave -o encrypted out"
)


def is_alone(network: Network) -> bool:
    """Tell whether the network has no place in the underlay yet: the cluster's is another one, or was not asked."""
    return network.overlay is not None and network.overlay.vtep == NOWHERE


def derived_vni(name: str) -> int:
    """Return the VNI of the network of that name: the same on every host, without a word between them."""
    digest = hashlib.sha256(name.encode()).digest()
    return DERIVED_VNIS[int.from_bytes(digest[:8]) % len(DERIVED_VNIS)]


def decide(
    network: Network,
    way_to: Callable[[Address], Way | None],
    join: Callable[[Network], Network],
    *,
    adopted: bool,
    tunnel_lack: Callable[[], str],
) -> Network:
    """Return `network` with its overlay and with the MTU that its frames have room for on the way to every peer.

    join: asks the cluster, if no peers are named. adopted: its bridge exists already.
    tunnel_lack: what this host lacks for a network that is encrypted, in words.

    Raises: BadRequest: the options do not fit this host. Unavailable: there is no way to a peer now.
    """
    options = network.options
    if options.encrypted and options.peers:
        raise BadRequest(
            f"cannot create network {network.id[:12]}: hosts that only know each other have no place where they could"
            f" tell their keys; {WITHOUT_KEYS}"
        )
    if options.encrypted and (lack := tunnel_lack()):
        raise BadRequest(f"cannot create network {network.id[:12]}: {lack}")
    if adopted:
        raise BadRequest(
            f"cannot create network {network.id[:12]}: an overlay has a bridge of its own, and {options.bridge_name}"
            " exists; choose another name"
        )
    if not options.peers:
        return join(network)
    ways = {peer: way_to(ip_address(peer)) for peer in options.peers}
    unreached = [peer for peer, way in ways.items() if way is None]
    if unreached:
        raise Unavailable(
            f"cannot create network {network.id[:12]}: this host has no route to its peer {unreached[0]}; add one, or"
            " leave it out of -o peers"
        )
    known = {peer: way for peer, way in ways.items() if way is not None}
    others = {peer: way for peer, way in known.items() if not way.local}
    if not others:
        raise BadRequest(
            f"cannot create network {network.id[:12]}: -o peers={','.join(options.peers)} names nobody but this host"
        )
    overlay = Overlay(
        vni=options.vni if options.vni is not None else derived_vni(options.name),
        port=options.vxlan_port,
        vtep=_vtep(network, known, way_to),
        peers=tuple(others),
    )
    return replace(network, overlay=overlay, mtu=mtu_inside(network, others.values()))


def mtu_inside(network: Network, ways: Iterable[Way]) -> int:
    """Return the MTU inside; what does not fit the way to every peer would be lost without a word.

    Raises: BadRequest: another one was asked for that does not fit, or nothing does.
    """
    room = min(way.mtu - OVERHEAD_BYTES[way.source.version] for way in ways)
    wanted = network.options.mtu or room
    if wanted > room:
        raise BadRequest(
            f"cannot create network {network.id[:12]}: an MTU of {wanted} does not fit, for the way to its peers leaves"
            f" {room}; use -o com.docker.network.driver.mtu={room} or less, or leave it out"
        )
    if room < LOWEST_MTU:
        raise BadRequest(
            f"cannot create network {network.id[:12]}: the way to its peers leaves an MTU of {room}, and IPv4 needs"
            f" {LOWEST_MTU}"
        )
    return wanted


def _vtep(network: Network, ways: dict[str, Way], way_to: Callable[[Address], Way | None]) -> str:
    """Return the address that this host has in the underlay."""
    wanted = network.options.vtep
    if wanted:
        way = way_to(ip_address(wanted))
        if way is None or not way.local:
            raise BadRequest(f"cannot create network {network.id[:12]}: -o vtep={wanted} is no address of this host")
        return wanted
    named = [peer for peer, way in ways.items() if way.local]
    sources = sorted({str(way.source) for way in ways.values() if not way.local})
    candidates = named or sources
    if len(candidates) > 1:
        raise BadRequest(
            f"cannot create network {network.id[:12]}: its peers may know this host as {' or '.join(candidates)};"
            " say which with -o vtep"
        )
    return candidates[0]
