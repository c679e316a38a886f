"""What a container says in others' names, on a network that is told not to believe it."""

from __future__ import annotations

from typing import Any

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_RA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from netplugin.conform.case import Area
from netplugin.conform.cases.nd import ALL_NODES, ALL_NODES_MAC, link_local
from netplugin.conform.place import Match, token
from netplugin.conform.view import BROADCAST, End, View, has

case = Area("spoofing")


def dropped(view: View, frame: Any, match: Match) -> None:
    """Ida has not heard a frame of hal's that matches, and then heard one that hal sends in its own name."""
    hal, ida, honest = view.at("hal"), view.at("ida"), token()
    with ida.place.hear(match) as heard, ida.place.hear(has(honest)) as control:
        hal.place.send(frame)
        hal.place.send(view.packet(hal, ida) / view.udp(4400, 4400, honest))
        control.first("what is sent in the own name")
        heard.none("the spoofed frame", 0.05)


def named(view: View, source: str, mac: str = "") -> None:
    """A datagram of hal's with another address is dropped."""
    hal, ida, payload = view.at("hal"), view.at("ida"), token()
    frame = Ether(src=mac or hal.mac, dst=ida.mac) / view.header(source, ida.ip) / view.udp(4401, 4401, payload)
    dropped(view, frame, has(payload))


@case("spoof-neighbour-ip", "RFC 2827; BCP 38", needs=("anti_spoof",))
def neighbour_ip(view: View) -> None:
    """A packet with the IP address of another container does not come."""
    named(view, str(view.at("ida").ip)[:-1] + "9")


@case("spoof-gateway-ip", "RFC 2827; BCP 38", needs=("anti_spoof",))
def gateway_ip(view: View) -> None:
    """A packet with the gateway's IP address does not come."""
    named(view, view.at("hal").gateway)


@case("spoof-foreign-ip", "RFC 2827; BCP 38", needs=("anti_spoof",))
def foreign_ip(view: View) -> None:
    """A packet with an IP address from outside does not come."""
    named(view, view.outside.ip)


@case("spoof-mac", "RFC 7513 1; containernetworking/plugins macspoofchk", needs=("anti_spoof",))
def mac(view: View) -> None:
    """A packet with another MAC address does not come."""
    named(view, view.at("hal").ip, "02:99:99:99:99:99")


@case("spoof-gateway-mac", "RFC 7513 1", needs=("anti_spoof",))
def gateway_mac(view: View) -> None:
    """A packet with the gateway's MAC address does not come."""
    named(view, view.at("hal").ip, view.at("hal").next_hop)


@case("spoof-out", "RFC 2827; BCP 38", needs=("anti_spoof",))
def leaving(view: View) -> None:
    """Nor does a packet with another's address leave the host; one with the own address does."""
    hal, payload, honest = view.at("hal"), token(), token()
    neighbour = view.at("ida").ip
    frame = Ether(src=hal.mac, dst=hal.next_hop) / view.header(neighbour, view.ghost.ip)
    with view.ghost.place.hear(has(payload)) as heard, view.ghost.place.hear(has(honest)) as control:
        hal.place.send(frame / view.udp(4402, 4402, payload))
        hal.place.send(view.packet(hal, view.ghost) / view.udp(4402, 4402, honest))
        control.first("what is sent in the own name")
        heard.none("the spoofed packet", 0.05)


def poison(hal: End, claimed: str, target: End) -> Any:
    """Return an ARP reply to `target` by which hal says that it has an address."""
    return Ether(src=hal.mac, dst=target.mac) / ARP(op=2, hwsrc=hal.mac, psrc=claimed, hwdst=target.mac, pdst=target.ip)


@case("spoof-arp-gateway", "RFC 826; RFC 5227 6", versions=(4,), needs=("anti_spoof",))
def arp_gateway(view: View) -> None:
    """An ARP reply in the gateway's name does not come."""
    hal, ida = view.at("hal"), view.at("ida")
    dropped(view, poison(hal, hal.gateway, ida), lambda frame: ARP in frame and frame[ARP].psrc == hal.gateway)


@case("spoof-arp-neighbour", "RFC 826; RFC 5227 6", versions=(4,), needs=("anti_spoof",))
def arp_neighbour(view: View) -> None:
    """An announcement of another's address does not come."""
    hal = view.at("hal")
    claimed = hal.ip[:-1] + "9"
    frame = Ether(src=hal.mac, dst=BROADCAST) / ARP(op=1, hwsrc=hal.mac, psrc=claimed, pdst=claimed)
    dropped(view, frame, lambda heard: ARP in heard and heard[ARP].psrc == claimed)


@case("spoof-nd-gateway", "RFC 6620 1; RFC 3756 4.1.1", versions=(6,), needs=("anti_spoof",))
def nd_gateway(view: View) -> None:
    """A neighbour advertisement in the gateway's name does not come."""
    hal, ida = view.at("hal"), view.at("ida")
    frame = Ether(src=hal.mac, dst=ida.mac) / IPv6(src=hal.ip, dst=ida.ip, hlim=255)
    frame /= ICMPv6ND_NA(tgt=hal.gateway, R=1, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=hal.mac)
    dropped(view, frame, lambda heard: ICMPv6ND_NA in heard and heard[ICMPv6ND_NA].tgt == hal.gateway)


@case("spoof-router", "RFC 6105; CVE-2020-10749", versions=(6,), needs=("anti_spoof",))
def router(view: View) -> None:
    """A router advertisement of a container's does not come."""
    hal = view.at("hal")
    frame = Ether(src=hal.mac, dst=ALL_NODES_MAC) / IPv6(src=link_local(hal.mac), dst=ALL_NODES, hlim=255)
    dropped(view, frame / ICMPv6ND_RA(), lambda heard: ICMPv6ND_RA in heard)


@case("spoof-dhcp", "RFC 2131; RFC 7610", versions=(4,), needs=("anti_spoof",))
def dhcp(view: View) -> None:
    """An offer of a DHCP server that a container plays does not come."""
    hal = view.at("hal")
    frame = Ether(src=hal.mac, dst=BROADCAST) / IP(src=hal.ip, dst="255.255.255.255") / UDP(sport=67, dport=68)
    frame /= BOOTP(op=2) / DHCP(options=[("message-type", "offer"), "end"])
    dropped(view, frame, lambda heard: BOOTP in heard)
