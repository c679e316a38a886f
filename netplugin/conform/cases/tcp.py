"""TCP through the host: RFC 5382 where it is about connections, and what must not be changed on the way."""

from __future__ import annotations

import socket
from threading import Thread
from typing import Any

from scapy.layers.inet import TCP
from scapy.packet import Packet

from netplugin.conform.case import Area
from netplugin.conform.place import token
from netplugin.conform.view import End, View
from pluginkit.conform.case import Failed, expect

case = Area("TCP")

_OPTIONS = [("MSS", 1234), ("SAckOK", b""), ("Timestamp", (17, 0)), ("NOP", None), ("WScale", 9)]


def segment(sport: int, dport: int, flags: str, **fields: Any) -> Packet:
    """Return a TCP segment without its IP header."""
    return TCP(sport=sport, dport=dport, flags=flags, **fields)


def from_port(port: int, flags: str = "") -> Any:
    """Return what tells whether a frame is a segment to a port, with exactly these flags if any."""
    return lambda frame: TCP in frame and frame[TCP].dport == port and (not flags or frame[TCP].flags == flags)


def number() -> int:
    """Return a port that no other case uses."""
    return 21000 + int(token()[:4], 16) % 8000


def refuses(view: View, client: End, ip: str, port: int) -> None:
    """A connection is refused, and at once."""
    try:
        view.connect(client, ip, port).close()
    except ConnectionRefusedError:
        return
    except OSError as exc:
        raise Failed(f"it is not refused: {exc}") from exc
    raise Failed("it is accepted")


@case("tcp-out", "RFC 5382 REQ-2")
def out(view: View) -> None:
    """A container connects to a host outside; a megabyte comes, unchanged."""
    ann, content = view.at("ann"), token() * 65536
    with view.listen(view.outside, 4600) as listener, view.connect(ann, view.outside.ip, 4600) as client:
        server, _ = listener.accept()
        with server:
            expect(_poured(client, server, content) == content, "it came differently")


def _poured(source: socket.socket, target: socket.socket, content: bytes) -> bytes:
    """Return what came of the content; one thread fills, the other empties."""
    target.settimeout(10)
    filler = Thread(target=lambda: source.sendall(content), daemon=True)
    filler.start()
    got = bytearray()
    while len(got) < len(content):
        try:
            piece = target.recv(1 << 16)
        except TimeoutError as exc:
            raise Failed(f"{len(got)} of {len(content)} bytes came") from exc
        if not piece:
            break
        got += piece
    filler.join(10)
    return bytes(got)


@case("tcp-inside", "RFC 9293 3.5; projectcalico/calico#9433")
def inside(view: View) -> None:
    """A container connects to a neighbour; a megabyte comes, unchanged."""
    ann, there, content = view.at("ann"), view.neighbour, token() * 65536
    with view.listen(there, 4601) as listener, view.connect(ann, there.ip, 4601) as client:
        server, _ = listener.accept()
        with server:
            expect(_poured(client, server, content) == content, "it came differently")


@case("tcp-in", "docker run -p; moby/moby#20178")
def coming(view: View) -> None:
    """A megabyte comes from a published port to a client outside, unchanged."""
    ann, content = view.at("ann"), token() * 65536
    with view.listen(ann, 80) as listener, view.connect(view.outside, view.wire.host, 8080) as client:
        server, _ = listener.accept()
        with server:
            expect(_poured(server, client, content) == content, "it came differently")


@case("tcp-refused", "RFC 9293 3.5.2")
def refused(view: View) -> None:
    """A published port where nobody listens refuses at once."""
    view.at("bob")
    refuses(view, view.outside, view.wire.host, 8090)


@case("tcp-refused-out", "RFC 9293 3.5.2; RFC 5382 REQ-2")
def refused_out(view: View) -> None:
    """A container is refused at once by a host outside where nobody listens."""
    refuses(view, view.at("ann"), view.outside.ip, 4602)


@case("tcp-half-closed", "RFC 9293 3.6; RFC 5382 REQ-2")
def half_closed(view: View) -> None:
    """When one side has said all, the other still speaks."""
    ann = view.at("ann")
    with view.listen(view.outside, 4603) as listener, view.connect(ann, view.outside.ip, 4603) as client:
        server, _ = listener.accept()
        with server:
            client.shutdown(socket.SHUT_WR)
            server.settimeout(3)
            expect(server.recv(10) == b"", "the end did not come")
            server.sendall(b"still here")
            expect(client.recv(100) == b"still here", "what was said afterwards did not come")


@case("tcp-options", "RFC 7323 2; RFC 2018 2; RFC 5382 REQ-2")
def options(view: View) -> None:
    """The options of a connection's first segment come as they were sent: size, scale, selective acknowledgements."""
    ann, port = view.at("ann"), number()
    with view.ghost.place.hear(from_port(port, "S")) as heard:
        ann.place.send(view.packet(ann, view.ghost) / segment(port, port, "S", seq=1, options=_OPTIONS))
        arrived = heard.first()
    got = {name: value for name, value in arrived[TCP].options if name != "NOP"}
    expect(got == {name: value for name, value in _OPTIONS if name != "NOP"}, f"they came as {got}")


@case("tcp-simultaneous", "RFC 5382 REQ-2a; RFC 9293 3.5")
def simultaneous(view: View) -> None:
    """Both sides may begin at once: the other's first segment comes, and the connection stands."""
    ann, ghost, port = view.at("ann"), view.ghost, number()
    with ann.place.ip_socket(view.version, socket.SOCK_STREAM) as client, ghost.place.hear(from_port(port)) as heard:
        client.bind((ann.ip, port))
        client.setblocking(False)
        client.connect_ex((ghost.ip, port))
        first = heard.first("the first segment")
        mapped = first[TCP].sport
        ghost.place.send(view.packet(ghost, view.wire.host) / segment(port, mapped, "S", seq=5000))
        for _ in range(10):
            second = heard.first("the acknowledgement of the other's first segment")
            if second[TCP].ack == 5001:
                break
        acknowledged = segment(port, mapped, "A", seq=5001, ack=first[TCP].seq + 1)
        ghost.place.send(view.packet(ghost, view.wire.host) / acknowledged)
        client.settimeout(3)
        said = view.packet(ghost, view.wire.host) / segment(port, mapped, "PA", seq=5001, ack=first[TCP].seq + 1)
        ghost.place.send(said / b"both")
        try:
            got = client.recv(10)
        except OSError as exc:
            raise Failed(f"the connection does not stand: {exc}") from exc
    expect(got == b"both", f"{got!r} came")


@case("tcp-filter", "RFC 5382 REQ-3")
def filtered(view: View) -> None:
    """Another host does not get in by a connection's mapping; the one that it leads to does."""
    ann, ghost, port = view.at("ann"), view.ghost, number()
    with ann.place.hear(lambda frame: TCP in frame and frame[TCP].dport == port) as heard:
        with ghost.place.hear(from_port(port, "S")) as left:
            ann.place.send(view.packet(ann, ghost) / segment(port, port, "S", seq=1))
            mapped = left.first()[TCP].sport
        outside = view.outside
        outside.place.send(view.packet(outside, view.wire.host) / segment(port, mapped, "S", seq=7))
        heard.none("another host's segment")
        ghost.place.send(view.packet(ghost, view.wire.host) / segment(port, mapped, "SA", seq=7, ack=2))
        heard.first("the answer")


@case("tcp-stray-reset", "RFC 5961 3; packetdrill conntrack_*")
def stray_reset(view: View) -> None:
    """A reset far out of the window does not end a connection."""
    ann, outside = view.at("ann"), view.outside
    with view.listen(outside, 4604) as listener, view.connect(ann, outside.ip, 4604) as client:
        server, (_, mapped, *_) = listener.accept()
        with server:
            forged = segment(4604, mapped, "R", seq=int(token()[:7], 16))
            outside.place.send(view.packet(outside, view.wire.host) / forged)
            server.sendall(b"alive")
            try:
                said = client.recv(10)
            except OSError as exc:
                raise Failed(f"the connection has ended: {exc}") from exc
    expect(said == b"alive", f"{said!r} came")


@case("tcp-source-port", "RFC 5382 REQ-1")
def same_mapping(view: View) -> None:
    """Towards different ports of a host the same source port is mapped to the same port."""
    ann, port = view.at("ann"), number()
    seen = set()
    for target in (port, port + 1):
        with view.ghost.place.hear(from_port(target, "S")) as heard:
            ann.place.send(view.packet(ann, view.ghost) / segment(port, target, "S", seq=1))
            seen.add(heard.first()[TCP].sport)
    expect(seen == {port}, f"ports {sorted(seen)}")


@case("tcp-published-reset", "RFC 9293 3.10.7.1")
def published_reset(view: View) -> None:
    """The refusal of a published port comes from the address and port that were asked."""
    view.at("bob")
    ghost, port = view.ghost, number()
    with ghost.place.hear(from_port(port)) as heard:
        ghost.place.send(view.packet(ghost, view.wire.host) / segment(port, 8090, "S", seq=1))
        reset = heard.first("the reset")
    expect((view.ip_of(reset).src, reset[TCP].sport) == (view.wire.host, 8090), reset.summary())
    expect("R" in reset[TCP].flags, reset.summary())
