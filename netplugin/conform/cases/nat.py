"""Network address translation of what leaves: RFC 4787 (UDP), RFC 5382 (TCP) and RFC 5508 (ICMP), by requirement."""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import ICMP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest

from netplugin.conform.case import Area
from netplugin.conform.place import token
from netplugin.conform.view import End, View, has
from pluginkit.conform.case import expect

case = Area("NAT")


def out(view: View, source: End, target: End, sport: int, dport: int) -> Any:
    """Return a datagram of `source`'s as it came to `target`."""
    payload = token()
    with target.place.hear(has(payload)) as heard:
        source.place.send(view.packet(source, target) / view.udp(sport, dport, payload))
        return heard.first()


def back(view: View, source: End, target: End, sport: int, dport: int) -> bool:
    """Tell whether a datagram from outside to the host's address gets to `target`."""
    payload = token()
    with target.place.hear(has(payload)) as heard:
        source.place.send(view.packet(source, view.wire.host) / view.udp(sport, dport, payload))
        return bool(heard.all())


def gets_in_alone(view: View, sport: int, other: End, other_port: int) -> None:
    """By the mapping of a datagram from `sport` to ghost's port 7, that gets in, and `other` does not."""
    ann = view.at("ann")
    mapped = out(view, ann, view.ghost, sport, 7)[UDP].sport
    expect(not back(view, other, ann, other_port, mapped), f"{other.ip}, port {other_port}, got in")
    expect(back(view, view.ghost, ann, 7, mapped), "the one that was asked did not")


def port_unreachable(view: View, arrived: Any) -> Any:
    """Return an ICMP error, without its IP header, about a packet as it came."""
    about = bytes(view.ip_of(arrived))[:120]
    return (ICMP(type=3, code=3) if view.version == 4 else ICMPv6DestUnreach(code=4)) / about


@case("nat-host-address", "RFC 4787 REQ-2; RFC 3022 2.2")
def host_address(view: View) -> None:
    """What leaves carries the host's address."""
    arrived = out(view, view.at("ann"), view.ghost, 20001, 7)
    expect(view.ip_of(arrived).src == view.wire.host, f"it carries {view.ip_of(arrived).src}")


@case("nat-own-address", "com.docker.network.bridge.enable_ip_masquerade")
def own_address(view: View) -> None:
    """Without masquerading what leaves carries the container's own address."""
    lea = view.at("lea")
    arrived = out(view, lea, view.ghost, 20002, 7)
    expect(view.ip_of(arrived).src == lea.ip, f"it carries {view.ip_of(arrived).src}")


@case("nat-port-kept", "RFC 4787 4.2.1")
def port_kept(view: View) -> None:
    """A source port that is free on the host stays what it is."""
    arrived = out(view, view.at("ann"), view.ghost, 20003, 7)
    expect(arrived[UDP].sport == 20003, f"20003 became {arrived[UDP].sport}")


@case("nat-port-low", "RFC 4787 REQ-3a")
def port_low(view: View) -> None:
    """A well-known source port stays one."""
    arrived = out(view, view.at("ann"), view.ghost, 500, 7)
    expect(arrived[UDP].sport < 1024, f"500 became {arrived[UDP].sport}")


@case("nat-same-mapping", "RFC 4787 REQ-1")
def same_mapping(view: View) -> None:
    """Towards different hosts and ports the same source is mapped to the same port."""
    ann = view.at("ann")
    seen = {out(view, ann, end, 20004, port)[UDP].sport for end, port in ((view.ghost, 7), (view.outside, 8))}
    seen.add(out(view, ann, view.ghost, 20004, 9)[UDP].sport)
    expect(len(seen) == 1, f"ports {sorted(seen)}")


@case("nat-shared-port", "RFC 4787 REQ-3; RFC 5382 REQ-7")
def shared_port(view: View) -> None:
    """Two containers with the same source port, to the same port of the same host, both get their own answers."""
    ann, bob = view.at("ann"), view.at("bob")
    ports = [out(view, end, view.ghost, 20005, 7)[UDP].sport for end in (ann, bob)]
    expect(ports[0] != ports[1], f"both left from port {ports[0]}")
    for end, other, port in ((ann, bob, ports[0]), (bob, ann, ports[1])):
        payload = token()
        with end.place.hear(has(payload)) as right, other.place.hear(has(payload)) as wrong:
            view.ghost.place.send(view.packet(view.ghost, view.wire.host) / view.udp(7, port, payload))
            expect(right.first()[UDP].dport == 20005, "the answer came to another port")
            wrong.none("another's answer", 0.02)


@case("nat-answer", "RFC 4787 REQ-8")
def answer(view: View) -> None:
    """An answer gets to who asked, with the address that was asked as its source."""
    ann, payload = view.at("ann"), token()
    port = out(view, ann, view.ghost, 20006, 7)[UDP].sport
    with ann.place.hear(has(payload)) as heard:
        view.ghost.place.send(view.packet(view.ghost, view.wire.host) / view.udp(7, port, payload))
        arrived = heard.first()
    expect((view.ip_of(arrived).src, view.ip_of(arrived).dst) == (view.ghost.ip, ann.ip), arrived.summary())


@case("nat-filter-port", "RFC 4787 REQ-8")
def filter_port(view: View) -> None:
    """Another port of the host that was asked does not get in by the mapping; the one that was asked does."""
    gets_in_alone(view, 20007, view.ghost, 8)


@case("nat-filter-address", "RFC 4787 REQ-8")
def filter_address(view: View) -> None:
    """Another host does not get in by the mapping; the one that was asked does."""
    gets_in_alone(view, 20008, view.outside, 7)


@case("nat-payload", "RFC 4787 REQ-10")
def payload_kept(view: View) -> None:
    """Addresses in the data of a known protocol are nobody's business: SIP passes unchanged."""
    ann = view.at("ann")
    said = f"INVITE sip:b@{view.ghost.ip} SIP/2.0\r\nVia: SIP/2.0/UDP {ann.ip}:5060\r\n\r\n".encode() + token()
    with view.ghost.place.hear(has(said[-16:])) as heard:
        ann.place.send(view.packet(ann, view.ghost) / view.udp(5060, 5060, said))
        arrived = heard.first()
    expect(bytes(arrived[UDP].payload) == said, "it was changed")


@case("nat-checksum", "RFC 3022 4.1; RFC 768")
def checksum(view: View) -> None:
    """The checksum of what was translated is right."""
    arrived = out(view, view.at("ann"), view.ghost, 20009, 7)
    told = arrived[UDP].chksum
    again = view.ip_of(arrived).copy()
    del again[UDP].chksum
    right = again.__class__(bytes(again))[UDP].chksum
    expect(told == right, f"it is {told:#06x} and should be {right:#06x}")


@case("nat-error-in", "RFC 5508 REQ-4; RFC 4787 REQ-12")
def error_in(view: View) -> None:
    """An ICMP error from outside gets to who sent the packet, about the packet as it was sent."""
    ann, ghost = view.at("ann"), view.ghost
    arrived = out(view, ann, ghost, 20010, 7)
    payload = bytes(arrived[UDP].payload)
    with ann.place.hear(view.error("port", payload)) as heard:
        ghost.place.send(view.packet(ghost, view.wire.host) / port_unreachable(view, arrived))
        error = heard.first("the error")
    about = view.about(error)
    expect((about.src, about.dst, about[UDP].sport) == (ann.ip, ghost.ip, 20010), f"about {about.summary()}")


@case("nat-error-router", "RFC 5508 REQ-4; RFC 1191 3")
def error_router(view: View) -> None:
    """So does the error of a router on the way, with that router's address as its source."""
    ann = view.at("ann")
    arrived = out(view, ann, view.ghost, 20011, 7)
    payload = bytes(arrived[UDP].payload)
    with ann.place.hear(view.error("port", payload)) as heard:
        view.outside.place.send(view.packet(view.outside, view.wire.host) / port_unreachable(view, arrived))
        error = heard.first("the error")
    expect(view.ip_of(error).src == view.outside.ip, f"from {view.ip_of(error).src}")


@case("nat-error-keeps", "RFC 4787 REQ-12; RFC 5382 REQ-10")
def error_keeps(view: View) -> None:
    """An ICMP error does not end the mapping: answers still come."""
    ann, ghost = view.at("ann"), view.ghost
    arrived = out(view, ann, ghost, 20012, 7)
    ghost.place.send(view.packet(ghost, view.wire.host) / port_unreachable(view, arrived))
    expect(back(view, ghost, ann, 7, arrived[UDP].sport), "the answer did not come")


@case("nat-error-stray", "RFC 5508 REQ-5")
def error_stray(view: View) -> None:
    """An error about a packet that nobody sent gets to nobody; one about a packet that was sent does."""
    ann, ghost = view.at("ann"), view.ghost
    arrived = out(view, ann, ghost, 20013, 7)
    payload = bytes(arrived[UDP].payload)
    stray = arrived.copy()
    stray[UDP].sport = 20014
    with ann.place.hear(view.error("port", payload)) as heard:
        ghost.place.send(view.packet(ghost, view.wire.host) / port_unreachable(view, stray))
        heard.none("the stray error")
        ghost.place.send(view.packet(ghost, view.wire.host) / port_unreachable(view, arrived))
        heard.first("the error")


@case("nat-ping-shared", "RFC 5508 REQ-1")
def ping_shared(view: View) -> None:
    """Two containers that ping the same host with the same identifier both get their own answers."""
    payloads = token(), token()
    for end, payload in zip((view.at("ann"), view.at("bob")), payloads, strict=True):
        view.at("ann")
        answered = end.place.ask(view.packet(end, view.outside) / view.echo(77, payload), view.echoed(payload))
        ident = answered[ICMP].id if view.version == 4 else answered.lastlayer().id
        expect(ident == 77, f"the identifier came back as {ident}")


@case("nat-ping-source", "RFC 5508 REQ-1")
def ping_source(view: View) -> None:
    """An echo request leaves with the host's address."""
    ann, payload = view.at("ann"), token()
    with view.ghost.place.hear(view.requested(payload)) as heard:
        ann.place.send(view.packet(ann, view.ghost) / view.echo(78, payload))
        arrived = heard.first()
    expect(view.ip_of(arrived).src == view.wire.host, f"it carries {view.ip_of(arrived).src}")
    expect(ICMP in arrived or ICMPv6EchoRequest in arrived, arrived.summary())
