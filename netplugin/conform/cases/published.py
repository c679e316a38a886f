"""Published ports: where they are open, to whom, and what is seen of whom behind them; also from inside (hairpin)."""

from __future__ import annotations

import socket
from typing import Any

from scapy.layers.inet import UDP
from scapy.layers.sctp import SCTP, SCTPChunkInit

from netplugin.conform.case import Area
from netplugin.conform.place import token
from netplugin.conform.view import End, View, has
from pluginkit.conform.case import Failed, expect

case = Area("published ports")


def published(view: View, source: End, target: End, port: int, *, at: str = "") -> Any:
    """Return a datagram for a port of the host's, as it came to `target`."""
    payload = token()
    with target.place.hear(has(payload)) as heard:
        source.place.send(view.packet(source, at or view.wire.host) / view.udp(4200, port, payload))
        return heard.first()


def closed(view: View, source: End, target: End, port: int, *, at: str = "") -> None:
    """A datagram for a port of the host's does not come to `target`."""
    payload = token()
    with target.place.hear(has(payload)) as heard:
        source.place.send(view.packet(source, at or view.wire.host) / view.udp(4201, port, payload))
        heard.none()


def talk(view: View, client: End, ip: str, port: int, server: End, inside: int) -> str:
    """Return the address by which a TCP server sees the client; both have heard each other."""
    with view.listen(server, inside) as listener:
        try:
            with view.connect(client, ip, port) as near:
                far, seen = listener.accept()
                with far:
                    near.sendall(b"question")
                    expect(far.recv(100) == b"question", "the question came differently")
                    far.sendall(b"answer")
                    expect(near.recv(100) == b"answer", "the answer came differently")
        except OSError as exc:
            raise Failed(f"cannot connect: {exc}") from exc
    return str(seen[0])


@case("publish-udp", "docker run -p")
def udp(view: View) -> None:
    """A datagram for a published port comes to the container's port."""
    arrived = published(view, view.ghost, view.at("ann"), 5353)
    expect(arrived[UDP].dport == 53, f"at port {arrived[UDP].dport}")


@case("publish-source-kept", "moby/moby#15086")
def source_kept(view: View) -> None:
    """It carries the address and port of who sent it."""
    ghost = view.ghost
    arrived = published(view, ghost, view.at("ann"), 5353)
    expect((view.ip_of(arrived).src, arrived[UDP].sport) == (ghost.ip, 4200), arrived.summary())


@case("publish-answer", "RFC 3022 2.2")
def answer(view: View) -> None:
    """The answer carries the address and port that were asked."""
    ann, ghost, payload = view.at("ann"), view.ghost, token()
    published(view, ghost, ann, 5353)
    with ghost.place.hear(has(payload)) as heard:
        ann.place.send(view.packet(ann, ghost) / view.udp(53, 4200, payload))
        arrived = heard.first()
    expect((view.ip_of(arrived).src, arrived[UDP].sport) == (view.wire.host, 5353), arrived.summary())


@case("publish-tcp", "docker run -p")
def tcp(view: View) -> None:
    """A TCP client outside speaks with the container, and is seen by its own address."""
    seen = talk(view, view.outside, view.wire.host, 8080, view.at("ann"), 80)
    expect(seen == view.wire.outside, f"seen as {seen}")


@case("publish-sctp", "docker run -p 7001:7000/sctp; RFC 9260")
def sctp(view: View) -> None:
    """The first packet of an SCTP association comes to the container, at the container's port."""
    sue, ghost = view.at("sue"), view.ghost
    tag = int.from_bytes(token()[:4])
    init = SCTP(sport=4202, dport=7001) / SCTPChunkInit(init_tag=tag)
    with sue.place.hear(lambda frame: SCTPChunkInit in frame and frame[SCTPChunkInit].init_tag == tag) as heard:
        ghost.place.send(view.packet(ghost, view.wire.host) / init)
        arrived = heard.first()
    expect(arrived[SCTP].dport == 7000, f"at port {arrived[SCTP].dport}")


@case("publish-run", "moby/moby#14288")
def run(view: View) -> None:
    """Of a run of ports the first, the last and one between lead to their own ports."""
    for port in (9000, 9004, 9009):
        arrived = published(view, view.ghost, view.at("ann"), port)
        expect(arrived[UDP].dport == port, f"{port} leads to {arrived[UDP].dport}")


@case("publish-run-ends", "moby/moby#14288")
def run_ends(view: View) -> None:
    """The ports before and behind a run are closed; those at its ends are not."""
    ann, ghost = view.at("ann"), view.ghost
    for port in (8999, 9010):
        closed(view, ghost, ann, port)
    published(view, ghost, ann, 9000)


@case("publish-other-protocol", "docker run -p")
def other_protocol(view: View) -> None:
    """A port that is published for TCP is closed for UDP; the one for UDP is open."""
    ann, ghost = view.at("ann"), view.ghost
    closed(view, ghost, ann, 8080)
    published(view, ghost, ann, 5353)


@case("publish-inner-port", "docker run -p")
def inner_port(view: View) -> None:
    """The container's port is not open at the host's address, only the one that it is published as."""
    ann, ghost = view.at("ann"), view.ghost
    closed(view, ghost, ann, 53)
    published(view, ghost, ann, 5353)


@case("publish-host-address", "docker run -p ADDRESS:PORT:PORT")
def host_address(view: View) -> None:
    """A port that is published on one address of the host's is open there, and not on another one."""
    ann, ghost = view.at("ann"), view.ghost
    published(view, ghost, ann, 5454)
    closed(view, ghost, ann, 5454, at=ann.gateway)


@case("publish-loopback-only", "moby/moby#45610; moby/moby#41872", versions=(4,))
def loopback_only(view: View) -> None:
    """A port that is published on 127.0.0.1 is closed to the wire, by the host's address and by 127.0.0.1."""
    ann, outside = view.at("ann"), view.outside
    closed(view, outside, ann, 5555)
    closed(view, outside, ann, 5555, at="127.0.0.1")


@case("publish-loopback", "docker run -p 127.0.0.1:PORT:PORT", versions=(4,))
def loopback(view: View) -> None:
    """It is open to the host itself, by 127.0.0.1."""
    host = End(view.stage.host, "127.0.0.1", "", "", "")
    talk(view, host, "127.0.0.1", 5555, view.at("ann"), 55)


@case("publish-from-host", "docker run -p")
def from_host(view: View) -> None:
    """A published port is open to the host itself, by its own address."""
    host = End(view.stage.host, view.wire.host, "", "", "")
    talk(view, host, view.wire.host, 8080, view.at("ann"), 80)


@case("publish-two-containers", "docker run -p")
def two_containers(view: View) -> None:
    """Two containers' ports of the same number lead each to its own."""
    ann, bob, ghost = view.at("ann"), view.at("bob"), view.ghost
    published(view, ghost, ann, 5353)
    published(view, ghost, bob, 5390)
    closed(view, ghost, ann, 5390)


@case("publish-no-loop", "docker run -p")
def unknown_port(view: View) -> None:
    """A port that nobody published is the host's own: it says that nobody listens there."""
    outside, payload = view.outside, token()
    frame = view.packet(outside, view.wire.host) / view.udp(4203, 4997, payload)
    view.at("ann")
    outside.place.ask(frame, view.error("port", payload))


@case("hairpin-own-tcp", "RFC 5382 REQ-8; RFC 4787 REQ-9")
def hairpin_own(view: View) -> None:
    """A container reaches itself by its own published port, and sees an address other than its own."""
    ann = view.at("ann")
    seen = talk(view, ann, view.wire.host, 8080, ann, 80)
    expect(seen != ann.ip, "it saw its own address as a source outside")


@case("hairpin-neighbour-tcp", "RFC 5382 REQ-8")
def hairpin_neighbour(view: View) -> None:
    """A container reaches a neighbour by the neighbour's published port, by TCP."""
    talk(view, view.at("bob"), view.wire.host, 8080, view.at("ann"), 80)


@case("hairpin-neighbour-udp", "RFC 4787 REQ-9")
def hairpin_udp(view: View) -> None:
    """By UDP too, and the answer comes from the address that was asked."""
    ann, bob = view.at("ann"), view.at("bob")
    with view.udp_at(ann, 53) as server, view.udp_at(bob) as client:
        client.sendto(b"question", (view.wire.host, 5353))
        try:
            said, seen = server.recvfrom(100)
            server.sendto(b"answer", seen)
            answered, source = client.recvfrom(100)
        except TimeoutError as exc:
            raise Failed("it did not come") from exc
    expect((said, answered) == (b"question", b"answer"), "it came differently")
    expect(tuple(source[:2]) == (view.wire.host, 5353), f"the answer came from {source[:2]}")


@case("hairpin-other-network", "docker run -p; moby/moby#22054")
def hairpin_other(view: View) -> None:
    """A container reaches one of another network by its published port."""
    talk(view, view.at("ann"), view.wire.host, 8081, view.at("cat"), 80)


@case("hairpin-gateway", "docker run -p")
def hairpin_gateway(view: View) -> None:
    """A container reaches a neighbour's published port by the gateway's address too."""
    bob = view.at("bob")
    talk(view, bob, bob.gateway, 8080, view.at("ann"), 80)


@case("publish-moves", "moby/moby#8795", needs=("comes",))
def moves(view: View) -> None:
    """A stream of datagrams goes to the container that has the published port now, not to the former one."""
    ghost = view.ghost
    eva = view.at("eva")
    try:
        published(view, ghost, eva, 5385)
        view.forget("eva")
        fin = view.at("fin")
        published(view, ghost, fin, 5385)
    finally:
        view.forget("eva")
        view.forget("fin")


@case("publish-gone", "moby/moby#8795", needs=("comes",))
def gone(view: View) -> None:
    """When a container has gone its published port is the host's again: it says that nobody listens there."""
    outside, payload = view.outside, token()
    eva = view.at("eva")
    try:
        published(view, outside, eva, 5385)
    finally:
        view.forget("eva")
    frame = view.packet(outside, view.wire.host) / view.udp(4200, 5385, payload)
    outside.place.ask(frame, view.error("port", payload))


@case("publish-held", "docs/firewall.md")
def held(view: View) -> None:
    """No process of the host's can open a published port."""
    view.at("ann")
    with view.stage.host.ip_socket(view.version, socket.SOCK_STREAM) as rival:
        rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        try:
            rival.bind((view.wire.host, 8080))
            rival.listen()
        except OSError:
            return
    raise Failed("a process listens on it")
