"""Frames of container 2 that a guard must let pass, and those that it must not, with the reason that is counted."""

from typing import NamedTuple

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import DHCP6_Advertise
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, LLC, STP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.network.sandboxes import GATEWAY4, GATEWAY6

MAC, MAC3, GATEWAY_MAC, RANDOM_MAC = "02:42:0a:09:00:02", "02:42:0a:09:00:03", "02:00:00:00:00:01", "02:99:99:99:99:99"
OWN4, NEIGHBOUR4, OWN6, NEIGHBOUR6 = "10.9.0.2", "10.9.0.3", "fd09::2", "fd09::3"
LOCAL, NEIGHBOUR_LOCAL, OTHER_LOCAL = "fe80::42:aff:fe09:2", "fe80::42:aff:fe09:3", "fe80::1234"


def ether(source=MAC, **fields):
    # To all: a spoofed source may have moved any other destination to the wrong port.
    return Ether(src=source, dst="ff:ff:ff:ff:ff:ff", **fields)


def arp(operation, hardware, sender, target):
    return ether() / ARP(op=operation, hwsrc=hardware, psrc=sender, hwdst=MAC3, pdst=target)


def patched(frame, offset, value):
    content = bytearray(bytes(frame))
    content[offset] = value
    return Raw(bytes(content))


def ip(source, target=NEIGHBOUR4):
    return ether() / IP(src=source, dst=target)


def ip6(source, target=NEIGHBOUR6, **fields):
    return ether() / IPv6(src=source, dst=target, hlim=255, **fields)


def solicitation(source, target, *options):
    return joined(ip6(source) / ICMPv6ND_NS(tgt=target), options)


def advertisement(source, target, *options):
    return joined(ip6(source) / ICMPv6ND_NA(tgt=target, R=0, S=0, O=1), options)


def joined(frame, options):
    for option in options:
        frame = frame / option
    return frame


class Case(NamedTuple):
    name: str
    frame: Packet
    reason: str = ""


ALLOWED = [
    Case("IPv4 from the own address", ip(OWN4) / ICMP()),
    Case("UDP to anywhere", ip(OWN4, "203.0.113.7") / UDP(sport=5000, dport=53)),
    Case("a fragment", ip(OWN4) / ICMP() / Raw(bytes(64))),
    Case("DHCP as a client", ip(OWN4) / UDP(sport=68, dport=67) / BOOTP(op=1)),
    Case("an ARP request", arp(1, MAC, OWN4, NEIGHBOUR4)),
    Case("an ARP reply", arp(2, MAC, OWN4, NEIGHBOUR4)),
    Case("an ARP announcement", arp(1, MAC, OWN4, OWN4)),
    Case("an ARP probe", arp(1, MAC, "0.0.0.0", OWN4)),
    Case("IPv6 from the own address", ip6(OWN6) / ICMPv6EchoRequest()),
    Case("IPv6 from the own link-local address", ip6(LOCAL) / ICMPv6EchoRequest()),
    Case("an ND solicitation", solicitation(OWN6, NEIGHBOUR6, ICMPv6NDOptSrcLLAddr(lladdr=MAC))),
    Case("an ND solicitation without option", solicitation(LOCAL, NEIGHBOUR6)),
    Case("duplicate address detection", solicitation("::", OWN6)),
    Case("duplicate address detection, link-local", solicitation("::", LOCAL)),
    Case("duplicate address detection with a nonce", joined(solicitation("::", OWN6), [Raw(b"\x0e\x01nonce!")])),
    Case("an ND advertisement", advertisement(OWN6, OWN6, ICMPv6NDOptDstLLAddr(lladdr=MAC))),
    Case("an ND advertisement without option", advertisement(LOCAL, OWN6)),
    Case("an ND advertisement, link-local", advertisement(LOCAL, LOCAL, ICMPv6NDOptDstLLAddr(lladdr=MAC))),
    Case("a router solicitation", ip6(LOCAL) / ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=MAC)),
    Case("a router solicitation without option", ip6(LOCAL) / ICMPv6ND_RS()),
    Case("a multicast report before there is an address", ip6("::") / IPv6ExtHdrHopByHop() / ICMPv6MLReport()),
    Case("a multicast report", ip6(LOCAL) / IPv6ExtHdrHopByHop() / ICMPv6MLReport()),
]
SPOOFED = (
    ("the MAC of a neighbour", MAC3),
    ("the MAC of the gateway", GATEWAY_MAC),
    ("an invented MAC", RANDOM_MAC),
)
REFUSED = [
    *(Case(name, ether(mac) / IP(src=OWN4, dst=NEIGHBOUR4) / ICMP(), "mac") for name, mac in SPOOFED),
    Case("an ARP frame from another MAC", ether(MAC3) / ARP(hwsrc=MAC, psrc=OWN4, pdst=NEIGHBOUR4), "mac"),
    Case("IPv4 of a neighbour", ip(NEIGHBOUR4, OWN4) / ICMP(), "ipv4"),
    Case("IPv4 of the gateway", ip(GATEWAY4) / ICMP(), "ipv4"),
    Case("IPv4 of the world", ip("203.0.113.7") / UDP(), "ipv4"),
    Case("IPv4 of a broadcast", ip("255.255.255.255") / ICMP(), "ipv4"),
    Case("DHCP discovery", ip("0.0.0.0", "255.255.255.255") / UDP(sport=68, dport=67) / BOOTP(op=1), "ipv4"),
    Case("a DHCP offer", ip(OWN4) / UDP(sport=67, dport=68) / BOOTP(op=2) / DHCP(options=["end"]), "dhcp"),
    Case("an ARP reply for a neighbour", arp(2, MAC, NEIGHBOUR4, OWN4), "arp"),
    Case("an ARP reply for the gateway", arp(2, MAC, GATEWAY4, NEIGHBOUR4), "arp"),
    Case("an ARP announcement for the gateway", arp(1, MAC, GATEWAY4, GATEWAY4), "arp"),
    Case("an ARP reply with the MAC of a neighbour", arp(2, MAC3, OWN4, NEIGHBOUR4), "arp"),
    Case("an ARP probe answered from nowhere", arp(2, MAC, "0.0.0.0", NEIGHBOUR4), "arp"),
    *(
        Case(f"an ARP frame with another {field}", patched(arp(1, MAC, OWN4, NEIGHBOUR4), offset, value), "arp")
        for field, offset, value in (("hardware", 15, 6), ("protocol", 17, 1), ("length", 18, 8), ("length", 19, 8))
    ),
    Case("IPv6 of a neighbour", ip6(NEIGHBOUR6) / ICMPv6EchoRequest(), "ipv6"),
    Case("IPv6 of the gateway", ip6(GATEWAY6) / ICMPv6EchoRequest(), "ipv6"),
    Case("link-local IPv6 of a neighbour", ip6(NEIGHBOUR_LOCAL) / ICMPv6EchoRequest(), "ipv6"),
    Case("link-local IPv6 of nobody", ip6(OTHER_LOCAL) / ICMPv6EchoRequest(), "ipv6"),
    Case("unspecified IPv6", ip6("::") / ICMPv6EchoRequest(), "ipv6"),
    Case("detection of a duplicate of a neighbour", solicitation("::", NEIGHBOUR6), "ipv6"),
    Case("an ND solicitation from the gateway", solicitation(GATEWAY6, NEIGHBOUR6), "ipv6"),
    Case(
        "an ND solicitation with the MAC of a neighbour",
        solicitation(OWN6, NEIGHBOUR6, ICMPv6NDOptSrcLLAddr(lladdr=MAC3)),
        "nd",
    ),
    Case(
        "an ND solicitation with two MACs",
        solicitation(OWN6, NEIGHBOUR6, ICMPv6NDOptSrcLLAddr(lladdr=MAC), ICMPv6NDOptSrcLLAddr(lladdr=MAC3)),
        "nd",
    ),
    Case(
        "an ND solicitation with another option first",
        solicitation(OWN6, NEIGHBOUR6, ICMPv6NDOptMTU(), ICMPv6NDOptSrcLLAddr(lladdr=MAC3)),
        "nd",
    ),
    Case("an ND advertisement of a neighbour", advertisement(OWN6, NEIGHBOUR6), "nd"),
    Case("an ND advertisement of the gateway", advertisement(LOCAL, GATEWAY6), "nd"),
    Case("an ND advertisement from a neighbour", advertisement(NEIGHBOUR6, NEIGHBOUR6), "ipv6"),
    Case(
        "an ND advertisement with the MAC of a neighbour",
        advertisement(OWN6, OWN6, ICMPv6NDOptDstLLAddr(lladdr=MAC3)),
        "nd",
    ),
    Case(
        "an ND advertisement behind an extension header",
        ip6(OWN6) / IPv6ExtHdrDestOpt() / ICMPv6ND_NA(tgt=OWN6),
        "nd",
    ),
    Case(
        "a router solicitation with the MAC of a neighbour",
        ip6(LOCAL) / ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=MAC3),
        "nd",
    ),
    Case("a router advertisement", ip6(LOCAL) / ICMPv6ND_RA(), "router"),
    Case(
        "a router advertisement behind extension headers",
        ip6(LOCAL) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / ICMPv6ND_RA(),
        "router",
    ),
    Case("a redirect", ip6(LOCAL) / ICMPv6ND_Redirect(tgt=OWN6, dst=GATEWAY6), "router"),
    Case("a DHCPv6 advertisement", ip6(LOCAL) / UDP(sport=547, dport=546) / DHCP6_Advertise(), "dhcp"),
    Case("a tagged frame", ether() / Dot1Q(vlan=0) / IP(src=NEIGHBOUR4, dst=NEIGHBOUR4) / ICMP(), "ethertype"),
    Case("a spanning tree frame", Ether(src=MAC, dst="ff:ff:ff:ff:ff:ff") / LLC() / STP(), "ethertype"),
    Case("an unknown type", ether(type=0x88B5) / Raw(bytes(46)), "ethertype"),
]
