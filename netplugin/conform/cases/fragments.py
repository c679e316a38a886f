"""Fragments, and the size of packets that a path takes."""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import ICMP, UDP, fragment
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6ExtHdrFragment, fragment6
from scapy.packet import Raw

from netplugin.conform.case import Area
from netplugin.conform.place import token
from netplugin.conform.stage import NARROW_MTU
from netplugin.conform.view import End, View
from pluginkit.conform.case import Failed, expect

case = Area("fragments and MTU")


def fragments(view: View, source: End, target: End | str, sport: int, dport: int, payload: bytes) -> list[Any]:
    """Return a datagram in three fragments or more."""
    whole = view.packet(source, target) / view.udp(sport, dport, payload)
    if view.version == 4:
        # What is left of one datagram must not be taken for a piece of the next.
        view.ip_of(whole).id = int(payload[:4], 16)
        return list(fragment(whole, fragsize=600))
    link = whole.copy()
    link.remove_payload()
    header = view.ip_of(whole)
    datagram = header.payload
    header.remove_payload()
    pieces = fragment6(header / IPv6ExtHdrFragment(id=int.from_bytes(payload[:4])) / datagram, 700)
    return [link / piece for piece in pieces]


def received(view: View, source: End, target: End, to: End | str, ports: tuple[int, int, int], order: Any) -> None:
    """A fragmented datagram, sent in an order, was received whole at the last of the ports."""
    sport, dport, inside = ports
    payload = token() + bytes(1500)
    with view.udp_at(target, inside) as server:
        source.place.send(*order(fragments(view, source, to, sport, dport, payload)))
        try:
            said = server.recv(4000)
        except TimeoutError as exc:
            raise Failed("it did not come") from exc
    expect(said == payload, "it came differently")


def mtu(end: End) -> int:
    """Return the MTU of the interface of an endpoint's."""
    return int(end.place.run("cat", f"/proc/sys/net/ipv6/conf/{end.place.link}/mtu"))


def filled(view: View, size: int) -> bytes:
    """Return the payload with which an echo request has a size, and by which it is known again."""
    return token() + bytes(size - (28 if view.version == 4 else 48) - 16)


@case("fragments-inside", "RFC 791 3.2; RFC 8200 4.5")
def inside(view: View) -> None:
    """A datagram in fragments comes to a neighbour."""
    there = view.neighbour
    received(view, view.at("ann"), there, there, (4300, 4301, 4301), lambda pieces: pieces)


@case("fragments-out", "RFC 4787 REQ-14")
def leaving(view: View) -> None:
    """A datagram in fragments comes to a host outside."""
    received(view, view.at("ann"), view.outside, view.outside, (4302, 4303, 4303), lambda pieces: pieces)


@case("fragments-published", "RFC 4787 REQ-14")
def coming(view: View) -> None:
    """A datagram in fragments comes to a published port."""
    received(view, view.ghost, view.at("ann"), view.wire.host, (4304, 5353, 53), lambda pieces: pieces)


@case("fragments-reversed", "RFC 4787 REQ-14a")
def reversed_order(view: View) -> None:
    """Also when the last fragment comes first."""
    received(view, view.ghost, view.at("ann"), view.wire.host, (4305, 5353, 53), lambda pieces: pieces[::-1])


@case("fragments-overlapping", "RFC 5722; RFC 8200 4.5")
def overlapping(view: View) -> None:
    """A datagram with a fragment that overlaps another is thrown away; without it, it comes."""
    ann, ghost, payload = view.at("ann"), view.ghost, token() + bytes(1500)
    pieces = fragments(view, ghost, view.wire.host, 4306, 5353, payload)
    forged = pieces[1].copy()
    if view.version == 4:
        forged.getlayer("IP").frag -= 1
        del forged.getlayer("IP").chksum
    else:
        forged[IPv6ExtHdrFragment].offset -= 1
    with view.udp_at(ann, 53) as server:
        server.settimeout(0.2)
        ghost.place.send(pieces[0], forged, *pieces[1:])
        try:
            said = server.recv(4000)
        except TimeoutError:
            said = b""
    expect(said in (b"", payload), "it came with what another fragment said")
    received(view, ghost, ann, view.wire.host, (4307, 5353, 53), lambda good: good)


@case("mtu-inside", "RFC 791 3.2; moby/moby#20178")
def mtu_inside(view: View) -> None:
    """A packet of exactly the interface's MTU, which may not be fragmented, comes to a neighbour and back."""
    ann, there = view.at("ann"), view.neighbour
    payload = filled(view, mtu(ann))
    frame = view.packet(ann, there, dont_fragment=True) / view.echo(9, payload)
    answered = ann.place.ask(frame, view.echoed(payload[:16]))
    expect(view.ip_of(answered).len if view.version == 4 else True, "it is empty")


@case("mtu-outside", "RFC 1191; moby/moby#20178")
def mtu_outside(view: View) -> None:
    """And to a host outside, and back."""
    ann = view.at("ann")
    payload = filled(view, mtu(ann))
    frame = view.packet(ann, view.outside, dont_fragment=True) / view.echo(10, payload)
    ann.place.ask(frame, view.echoed(payload[:16]))


@case("mtu-told", "RFC 1191 4; RFC 8201 4; RFC 4787 REQ-13")
def told(view: View) -> None:
    """A packet that is too large for the way out is answered with the size that fits, about it as it was sent."""
    ann, payload = view.at("ann"), token()
    frame = view.packet(ann, view.narrow, dont_fragment=True) / view.udp(4308, 4308, payload + bytes(1320))
    error = ann.place.ask(frame, view.error("size", payload))
    size = error[ICMP].nexthopmtu if view.version == 4 else error[ICMPv6PacketTooBig].mtu
    expect(size == NARROW_MTU, f"{size} is told")
    about = view.about(error)
    expect((about.src, about.dst) == (ann.ip, view.narrow.ip), f"about {about.summary()}")


@case("mtu-from-gateway", "RFC 1812 4.3.2.4; RFC 4443 3.2")
def from_gateway(view: View) -> None:
    """It is the gateway that says so."""
    ann, payload = view.at("ann"), token()
    frame = view.packet(ann, view.narrow, dont_fragment=True) / view.udp(4309, 4309, payload + bytes(1320))
    error = ann.place.ask(frame, view.error("size", payload))
    expect(view.ip_of(error).src == ann.gateway, f"from {view.ip_of(error).src}")


@case("mtu-fragmented", "RFC 791 2.3; RFC 1812 5.2.6", versions=(4,))
def fragmented(view: View) -> None:
    """One that may be fragmented comes to a host behind a smaller MTU, and its answer comes back."""
    ann, payload = view.at("ann"), token() + bytes(1350)
    frame = view.packet(ann, view.narrow) / view.echo(11, payload)
    ann.place.ask(frame, view.echoed(payload[:16]))


@case("mtu-not-in-pieces", "RFC 8200 5; RFC 1191 3")
def not_in_pieces(view: View) -> None:
    """One that may not be fragmented does not come in pieces; one that fits comes."""
    ann, payload = view.at("ann"), token()

    def piece(frame: Any) -> bool:
        return Raw in frame and payload in bytes(frame[Raw])

    with view.narrow.place.hear(piece) as heard:
        large = view.udp(4310, 4310, payload + bytes(1320))
        ann.place.send(view.packet(ann, view.narrow, dont_fragment=True) / large)
        heard.none("a piece")
        small = view.udp(4310, 4310, payload + bytes(1200))
        ann.place.send(view.packet(ann, view.narrow, dont_fragment=True) / small)
        expect(UDP in heard.first("one that fits"), "it came in pieces")


@case("mtu-found", "RFC 1191 3; RFC 8201 1; moby/moby#22028")
def found(view: View) -> None:
    """A TCP connection finds the size that fits: a hundred thousand bytes come to a host behind a smaller MTU."""
    ann, narrow, content = view.at("ann"), view.narrow, bytes(100_000)
    with view.listen(narrow, 4311) as listener, view.connect(ann, narrow.ip, 4311) as client:
        server, _ = listener.accept()
        with server:
            server.settimeout(5)
            client.sendall(content)
            got = 0
            try:
                while got < len(content):
                    got += len(server.recv(1 << 16))
            except TimeoutError as exc:
                raise Failed(f"{got} of {len(content)} bytes came") from exc
