"""A stage in one IP version: what a case asks for, and the headers that both versions have under different names."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_network
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    in6_getnsma,
    in6_getnsmac,
)
from scapy.layers.l2 import ARP, Ether

from netplugin.conform.case import Version
from netplugin.conform.place import PATIENCE_S, Place
from netplugin.conform.stage import WIRES, Stage, Wire
from pluginkit.conform.case import Failed, expect

# The kernel tells a bridge up to a second later that there is somebody at a port (link watch).
_ASKED_AT_FIRST, _ASKED_EVERY_S = 12, 0.25
BROADCAST = "ff:ff:ff:ff:ff:ff"


@dataclass(frozen=True)
class End:
    """Somebody with an address. next_hop: the MAC address to which it sends what is not for its own network."""

    place: Place
    ip: str
    network: str
    gateway: str
    next_hop: str

    @property
    def mac(self) -> str:
        """Its MAC address."""
        return self.place.mac


class View:
    """A stage in one IP version."""

    def __init__(self, stage: Stage, version: Version) -> None:
        self.stage, self.version = stage, version
        self.wire: Wire = WIRES[version]
        self.at = cache(self._at)
        self._protocol = 0x0800 if version == 4 else 0x86DD

    def _at(self, name: str) -> End:
        endpoint = self.stage.endpoint(name)
        ip, gateway = endpoint.addresses[self.version], endpoint.gateways[self.version]
        place = endpoint.place
        next_hop = self._first_answer(place, ip, gateway or first_address(ip))
        expect(next_hop or not gateway, f"{name}'s gateway {gateway} does not answer")
        return End(place, ip, endpoint.network, gateway, next_hop)

    def _first_answer(self, place: Place, ip: str, target: str) -> str:
        """Return the MAC address of `target`, "" if there is none, as soon as the endpoint's port passes packets on."""
        for _ in range(_ASKED_AT_FIRST):
            with place.hear(lambda frame: self.is_answer(frame, target)) as heard:
                place.send(self.solicitation(place.mac, ip, target))
                with suppress(Failed):
                    return self._mac(heard.first(within_s=_ASKED_EVERY_S))
        return ""

    def forget(self, name: str) -> None:
        """The endpoint of that name is gone."""
        self.stage.leave(name)
        self.at.cache_clear()

    @property
    def neighbour(self) -> End:
        """Who is on ann's network: on another host if there is one."""
        return self.at("far" if self.stage.kind == "overlay" else "bob")

    @property
    def outside(self) -> End:
        """The host on the wire."""
        return self._outside(self.wire.outside)

    @property
    def ghost(self) -> End:
        """An address on the wire that arrives at the host on the wire, whose kernel does not answer for it."""
        return self._outside(self.wire.ghost)

    @property
    def narrow(self) -> End:
        """The host on the wire, behind a smaller MTU."""
        return self._outside(self.wire.narrow)

    def _outside(self, ip: str) -> End:
        return End(self.stage.outside, ip, "", self.wire.host, self.stage.host.mac)

    def resolve(self, place: Place, ip: str, target: str) -> str:
        """Return the MAC address of `target`, asked for from `ip`.

        Raises: Failed: nobody answered.
        """
        answer = place.ask(self.solicitation(place.mac, ip, target), lambda frame: self.is_answer(frame, target))
        return self._mac(answer)

    def _mac(self, answer: Any) -> str:
        return str(answer[ARP].hwsrc if self.version == 4 else answer[ICMPv6NDOptDstLLAddr].lladdr)

    def solicitation(self, mac: str, ip: str, target: str) -> Any:
        """Return the frame that asks who has `target`."""
        if self.version == 4:
            return Ether(src=mac, dst=BROADCAST) / ARP(op=1, hwsrc=mac, psrc=ip, pdst=target)
        group = in6_getnsma(socket.inet_pton(socket.AF_INET6, target))
        frame = Ether(src=mac, dst=in6_getnsmac(group)) / IPv6(
            src=ip, dst=socket.inet_ntop(socket.AF_INET6, group), hlim=255
        )
        return frame / ICMPv6ND_NS(tgt=target) / ICMPv6NDOptSrcLLAddr(lladdr=mac)

    def is_answer(self, frame: Any, target: str) -> bool:
        """Tell whether the frame says who has `target`."""
        if self.version == 4:
            return ARP in frame and frame[ARP].op == 2 and frame[ARP].psrc == target
        return ICMPv6ND_NA in frame and frame[ICMPv6ND_NA].tgt == target

    # What both versions have.

    def packet(self, source: End, target: End | str, **fields: Any) -> Any:
        """Return Ethernet and IP header of a packet of `source`'s: straight to a neighbour, else to its gateway."""
        straight = isinstance(target, End) and target.network == source.network
        mac = target.mac if straight and isinstance(target, End) else source.next_hop
        ip = target.ip if isinstance(target, End) else target
        return Ether(src=source.mac, dst=mac, type=self._protocol) / self.header(source.ip, ip, **fields)

    def routed(self, source: End, target: End | str, **fields: Any) -> Any:
        """Return the same, by way of the gateway even to a neighbour."""
        frame = self.packet(source, target, **fields)
        frame[Ether].dst = source.next_hop
        return frame

    def header(self, source: str, target: str, *, hops: int = 64, dont_fragment: bool = False) -> Any:
        """Return an IP header."""
        if self.version == 4:
            return IP(src=source, dst=target, ttl=hops, flags="DF" if dont_fragment else 0)
        return IPv6(src=source, dst=target, hlim=hops)

    def ip_of(self, frame: Any) -> Any:
        """Return the frame's IP header, or None."""
        return frame.getlayer(IP if self.version == 4 else IPv6)

    def hops(self, frame: Any) -> int:
        """Return the hops that are left to the packet."""
        header = self.ip_of(frame)
        return int(header.ttl if self.version == 4 else header.hlim)

    def udp(self, source: int, target: int, payload: bytes) -> Any:
        """Return a UDP datagram without its IP header."""
        return UDP(sport=source, dport=target) / payload

    def echo(self, ident: int, payload: bytes, sequence: int = 1) -> Any:
        """Return an echo request without its IP header."""
        if self.version == 4:
            return ICMP(type=8, id=ident, seq=sequence) / payload
        return ICMPv6EchoRequest(id=ident, seq=sequence, data=payload)

    def echoed(self, payload: bytes) -> Any:
        """Return what tells whether a frame is an echo reply with the payload."""

        def matches(frame: Any) -> bool:
            if self.version == 4:
                return ICMP in frame and frame[ICMP].type == 0 and payload in bytes(frame[ICMP].payload)
            return ICMPv6EchoReply in frame and payload in bytes(frame[ICMPv6EchoReply].data)

        return matches

    def requested(self, payload: bytes) -> Any:
        """Return what tells whether a frame is an echo request with the payload."""

        def matches(frame: Any) -> bool:
            if self.version == 4:
                return ICMP in frame and frame[ICMP].type == 8 and payload in bytes(frame[ICMP].payload)
            return ICMPv6EchoRequest in frame and payload in bytes(frame[ICMPv6EchoRequest].data)

        return matches

    def error(self, what: str, payload: bytes) -> Any:
        """Return what tells whether a frame is an ICMP error about a packet with the payload.

        what: "port" unreachable, "time" exceeded, "size" too big.
        """
        kinds4 = {"port": (3, 3), "time": (11, 0), "size": (3, 4)}
        kinds6 = {"port": (ICMPv6DestUnreach, 4), "time": (ICMPv6TimeExceeded, 0), "size": (ICMPv6PacketTooBig, 0)}

        def matches(frame: Any) -> bool:
            if payload not in bytes(frame):
                return False
            if self.version == 4:
                return ICMP in frame and (frame[ICMP].type, frame[ICMP].code) == kinds4[what]
            layer, code = kinds6[what]
            return layer in frame and frame[layer].code == code

        return matches

    def about(self, frame: Any) -> Any:
        """Return the packet that an ICMP error is about, from its IP header on."""
        layer = IP if self.version == 4 else IPv6
        if self.version == 4:
            return IP(bytes(frame[ICMP].payload))
        for error in (ICMPv6DestUnreach, ICMPv6TimeExceeded, ICMPv6PacketTooBig):
            if error in frame:
                return IPv6(bytes(frame[error].payload))
        return layer()

    # Connections by the kernels at both ends.

    def listen(self, end: End, port: int) -> socket.socket:
        """Return a TCP socket that accepts at the end's address."""
        listener = end.place.ip_socket(self.version, socket.SOCK_STREAM)
        listener.bind((end.ip, port))
        listener.listen(8)
        return listener

    def connect(self, end: End, ip: str, port: int, timeout_s: float = PATIENCE_S) -> socket.socket:
        """Return a TCP socket that is connected from the end.

        Raises: OSError: as connect(2) does.
        """
        client = end.place.ip_socket(self.version, socket.SOCK_STREAM)
        client.settimeout(timeout_s)
        try:
            client.connect((ip, port))
        except BaseException:
            client.close()
            raise
        return client

    def udp_at(self, end: End, port: int = 0) -> socket.socket:
        """Return a UDP socket that is bound to the end's address."""
        opened = end.place.ip_socket(self.version, socket.SOCK_DGRAM)
        opened.bind((end.ip, port))
        return opened


def first_address(ip: str) -> str:
    """Return the first address of the network of a container's."""
    return str(ip_network(f"{ip}/{64 if ':' in ip else 24}", strict=False)[1])


def has(payload: bytes) -> Any:
    """Return what tells whether a frame holds the payload and is no ICMP error about it."""

    def matches(frame: Any) -> bool:
        return (UDP in frame or TCP in frame) and payload in bytes(frame) and not _is_error(frame)

    return matches


def bare(payload: bytes) -> Any:
    """Return what tells whether a frame is a datagram with the payload, and not what a tunnel makes of it."""
    return lambda frame: UDP in frame and bytes(frame[UDP].payload) == payload


def _is_error(frame: Any) -> bool:
    if ICMP in frame:
        return frame[ICMP].type not in (0, 8)
    return any(layer in frame for layer in (ICMPv6DestUnreach, ICMPv6TimeExceeded, ICMPv6PacketTooBig))
