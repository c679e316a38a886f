"""Broadcast and multicast: to whom they go, and where they end."""

from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network
from typing import Any

from scapy.layers.l2 import Ether

from netplugin.conform.case import Area
from netplugin.conform.cases.arp import free_address
from netplugin.conform.place import token
from netplugin.conform.view import BROADCAST, End, View, bare, has
from pluginkit.conform.case import expect

case = Area("broadcast and multicast")


def group_frame(view: View, source: End, group: str, payload: bytes, hops: int) -> Any:
    """Return a datagram to a multicast group, or to everybody."""
    packed = ip_address(group).packed
    if not ip_address(group).is_multicast:
        mac = BROADCAST
    elif view.version == 4:
        mac = ":".join(f"{octet:02x}" for octet in (0x01, 0x00, 0x5E, packed[1] & 0x7F, *packed[2:]))
    else:
        mac = ":".join(f"{octet:02x}" for octet in (0x33, 0x33, *packed[-4:]))
    return Ether(src=source.mac, dst=mac) / view.header(source.ip, group, hops=hops) / view.udp(4500, 4500, payload)


def stays(view: View, group: str, hops: int) -> None:
    """What ann sends to many comes to its neighbours, and neither to another network nor outside."""
    ann, cat, payload = view.at("ann"), view.at("cat"), token()
    near, match = view.neighbour, has(payload)
    with (
        near.place.hear(match) as inside,
        cat.place.hear(match) as other,
        view.outside.place.hear(bare(payload)) as out,
    ):
        ann.place.send(group_frame(view, ann, group, payload, hops))
        inside.first()
        other.none("the packet, on another network,")
        out.none("the packet, outside,", 0.02)


def groups(view: View) -> tuple[str, str]:
    """Return a group of the link's, and one that routers may pass on."""
    return ("224.0.0.251", "239.1.2.3") if view.version == 4 else ("ff02::fb", "ff0e::1234")


@case("many-link", "RFC 5771 4; RFC 4291 2.7; RFC 6762; moby/libnetwork#552")
def link(view: View) -> None:
    """Multicast of the link, as that of mDNS, comes to the neighbours and stays there."""
    stays(view, groups(view)[0], 255)


@case("many-routable", "RFC 1112 7.1; moby/libnetwork#552")
def routable(view: View) -> None:
    """Multicast that routers may pass on comes to the neighbours and stays there: the host is no multicast router."""
    stays(view, groups(view)[1], 16)


@case("many-one-hop", "RFC 1112 6.1")
def one_hop(view: View) -> None:
    """Multicast with one hop left comes to the neighbours."""
    stays(view, groups(view)[1], 1)


@case("many-limited", "RFC 919 7; RFC 1812 5.3.5.1", versions=(4,))
def limited(view: View) -> None:
    """The limited broadcast comes to the neighbours and stays there."""
    stays(view, "255.255.255.255", 64)


@case("many-directed", "RFC 919 7", versions=(4,))
def directed(view: View) -> None:
    """The broadcast of the own subnet comes to the neighbours and stays there."""
    stays(view, str(ip_network(f"{view.at('ann').ip}/24", strict=False).broadcast_address), 64)


@case("many-directed-outside", "RFC 2644 2", versions=(4,))
def directed_outside(view: View) -> None:
    """The broadcast of a network's subnet does not come in from outside."""
    bob, payload, outside = view.at("bob"), token(), view.outside
    target = str(ip_network(f"{bob.ip}/24", strict=False).broadcast_address)
    with bob.place.hear(has(payload)) as heard:
        outside.place.send(view.packet(outside, target) / view.udp(4501, 4501, payload))
        heard.none()


@case("many-directed-others", "RFC 2644 2", versions=(4,))
def directed_others(view: View) -> None:
    """Nor from another network."""
    bob, payload, cat = view.at("bob"), token(), view.at("cat")
    target = str(ip_network(f"{bob.ip}/24", strict=False).broadcast_address)
    with bob.place.hear(has(payload)) as heard:
        cat.place.send(view.packet(cat, target) / view.udp(4502, 4502, payload))
        heard.none()


@case("many-ping", "RFC 1122 3.2.2.6; CVE-1999-0513", versions=(4,))
def ping(view: View) -> None:
    """The host does not answer an echo request to everybody."""
    ann, payload = view.at("ann"), token()
    target = str(ip_network(f"{ann.ip}/24", strict=False).broadcast_address)
    with ann.place.hear(view.echoed(payload)) as heard:
        ann.place.send(Ether(src=ann.mac, dst=BROADCAST) / view.header(ann.ip, target) / view.echo(12, payload))
        heard.none("an answer")


@case("many-member", "RFC 1112 6.1; RFC 3810 1; moby/libnetwork#552")
def member(view: View) -> None:
    """Who has joined a group is given what is sent to it."""
    ann, near, payload = view.at("ann"), view.neighbour, token()
    group = groups(view)[1]
    with view.udp_at(End(near.place, group, "", "", ""), 4500) as listening:
        packed = ip_address(group).packed
        index = near.place.index()
        if view.version == 4:
            joined = packed + bytes(4) + index.to_bytes(4, "little")
            listening.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        else:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed + index.to_bytes(4, "little"))
        ann.place.send(group_frame(view, ann, group, payload, 1))
        try:
            said = listening.recv(100)
        except TimeoutError:
            said = b""
    expect(said == payload, "it was not given it")


@case("many-unknown", "IEEE 802.1D 7.7; RFC 7348 4.2")
def unknown(view: View) -> None:
    """A frame to a MAC address that nobody has stays in its network."""
    ann, cat, payload = view.at("ann"), view.at("cat"), token()
    target = free_address(ann) if view.version == 4 else str(ip_network(f"{ann.ip}/64", strict=False)[0xBEEF])
    frame = Ether(src=ann.mac, dst="02:42:de:ad:be:ef") / view.header(ann.ip, target) / view.udp(4503, 4503, payload)
    with cat.place.hear(has(payload)) as other, view.outside.place.hear(bare(payload)) as out:
        ann.place.send(frame)
        other.none("the packet, on another network,")
        out.none("the packet, outside,", 0.02)
