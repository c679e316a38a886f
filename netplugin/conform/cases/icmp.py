"""ICMP and hops: what a router between networks does, and what nobody does inside of one."""

from __future__ import annotations

from netplugin.conform.case import Area
from netplugin.conform.place import token
from netplugin.conform.view import End, View, has
from pluginkit.conform.case import expect

case = Area("ICMP")


def ping(view: View, source: End, target: End | str, *, size: int = 0) -> None:
    """`target` has answered an echo request of `source`'s with all of its payload."""
    payload = token() + bytes(size)
    source.place.ask(view.packet(source, target) / view.echo(0x1234, payload), view.echoed(payload))


@case("icmp-gateway", "RFC 1122 3.2.2.6; RFC 4443 4.2")
def gateway(view: View) -> None:
    """The gateway answers an echo request with the same data."""
    ann = view.at("ann")
    ping(view, ann, ann.gateway)


@case("icmp-neighbour", "RFC 792; RFC 4443 4.2")
def neighbour(view: View) -> None:
    """A neighbour answers an echo request with the same data."""
    ping(view, view.at("ann"), view.neighbour, size=1200)


@case("icmp-outside", "RFC 792; RFC 4443 4.2")
def outside(view: View) -> None:
    """A host outside answers an echo request with the same data."""
    ping(view, view.at("ann"), view.outside, size=1200)


@case("icmp-host", "RFC 1122 3.2.2.6")
def host(view: View) -> None:
    """The host's own address outside answers a container."""
    ping(view, view.at("ann"), view.wire.host)


@case("icmp-no-hop-inside", "RFC 7348 4; IEEE 802.1D 6.3")
def no_hop(view: View) -> None:
    """A packet with one hop left reaches a neighbour, with that hop still left: nothing inside is a router."""
    ann, there, payload = view.at("ann"), view.neighbour, token()
    with there.place.hear(view.requested(payload)) as heard:
        ann.place.send(view.packet(ann, there, hops=1) / view.echo(2, payload))
        arrived = heard.first()
    expect(view.hops(arrived) == 1, f"{view.hops(arrived)} hops are left")


@case("icmp-one-hop-out", "RFC 1812 5.3.1; RFC 8200 3")
def one_hop_out(view: View) -> None:
    """A packet that leaves loses exactly one hop."""
    ann, payload = view.at("ann"), token()
    with view.outside.place.hear(view.requested(payload)) as heard:
        ann.place.send(view.packet(ann, view.outside, hops=9) / view.echo(3, payload))
        arrived = heard.first()
    expect(view.hops(arrived) == 8, f"{view.hops(arrived)} of 9 hops are left")


@case("icmp-one-hop-in", "RFC 1812 5.3.1; RFC 8200 3")
def one_hop_in(view: View) -> None:
    """A packet to a published port loses exactly one hop."""
    ann, ghost, payload = view.at("ann"), view.ghost, token()
    with ann.place.hear(has(payload)) as heard:
        ghost.place.send(view.packet(ghost, view.wire.host, hops=9) / view.udp(4000, 5353, payload))
        arrived = heard.first()
    expect(view.hops(arrived) == 8, f"{view.hops(arrived)} of 9 hops are left")


@case("icmp-time-exceeded", "RFC 1812 5.3.1, 4.3.2.3; RFC 4443 3.3")
def time_exceeded(view: View) -> None:
    """The gateway says that a packet's time is over, from its own address, about the packet as it was sent."""
    ann, payload = view.at("ann"), token()
    frame = view.packet(ann, view.outside, hops=1) / view.udp(4001, 4001, payload)
    error = ann.place.ask(frame, view.error("time", payload))
    expect(view.ip_of(error).src == ann.gateway, f"from {view.ip_of(error).src}")
    about = view.about(error)
    expect((about.src, about.dst) == (ann.ip, view.outside.ip), f"about {about.summary()}")


@case("icmp-no-time-outside", "RFC 1812 5.3.1")
def stops(view: View) -> None:
    """A packet without a hop left does not leave."""
    ann, payload = view.at("ann"), token()
    with view.outside.place.hear(has(payload)) as heard:
        ann.place.send(view.packet(ann, view.outside, hops=1) / view.udp(4001, 4001, payload))
        heard.none()
        ann.place.send(view.packet(ann, view.outside, hops=2) / view.udp(4001, 4001, payload))
        heard.first("the packet with a hop left")


@case("icmp-port-inside", "RFC 1122 3.2.2.1; RFC 4443 3.1")
def port_inside(view: View) -> None:
    """A neighbour says that nobody listens on a port, about the packet as it was sent."""
    ann, there, payload = view.at("ann"), view.neighbour, token()
    frame = view.packet(ann, there) / view.udp(4002, 4999, payload)
    error = ann.place.ask(frame, view.error("port", payload))
    about = view.about(error)
    expect((about.src, about.dst) == (ann.ip, there.ip), f"about {about.summary()}")


@case("icmp-host-port", "RFC 1122 3.2.2.1; RFC 4443 3.1")
def host_port(view: View) -> None:
    """The host says to a container that nobody listens on a port of its."""
    ann, payload = view.at("ann"), token()
    frame = view.packet(ann, ann.gateway) / view.udp(4003, 4998, payload)
    error = ann.place.ask(frame, view.error("port", payload))
    expect(view.ip_of(error).src == ann.gateway, f"from {view.ip_of(error).src}")


@case("icmp-class-kept", "RFC 2474 2; RFC 3168 5")
def class_kept(view: View) -> None:
    """The class of service and the congestion mark of a packet that leaves are as the container set them."""
    ann, payload = view.at("ann"), token()
    frame = view.packet(ann, view.outside) / view.udp(4004, 4004, payload)
    header = view.ip_of(frame)
    setattr(header, "tos" if view.version == 4 else "tc", 0xB9)
    with view.outside.place.hear(has(payload)) as heard:
        ann.place.send(frame)
        arrived = view.ip_of(heard.first())
    expect((arrived.tos if view.version == 4 else arrived.tc) == 0xB9, "it was changed")
