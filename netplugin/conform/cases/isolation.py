"""Who reaches whom: networks among each other, internal ones, containers apart, and everybody from outside."""

from __future__ import annotations

import socket

from netplugin.conform.case import Area
from netplugin.conform.cases.icmp import ping
from netplugin.conform.cases.published import closed, published
from netplugin.conform.place import token
from netplugin.conform.view import BROADCAST, End, View, has
from pluginkit.conform.case import Failed, expect

case = Area("isolation")


def arrives(view: View, source: End, target: End, *, port: int = 4100, by_gateway: bool = True) -> bool:
    """Tell whether a datagram of `source`'s gets to `target`'s interface."""
    payload = token()
    frame = (view.routed if by_gateway else view.packet)(source, target) / view.udp(4100, port, payload)
    with target.place.hear(has(payload)) as heard:
        source.place.send(frame)
        return bool(heard.all())


def reaches(view: View, source: End, target: End, *, port: int = 4100) -> None:
    """A datagram of `source`'s has come to `target`'s interface."""
    payload = token()
    with target.place.hear(has(payload)) as heard:
        source.place.send(view.routed(source, target) / view.udp(4100, port, payload))
        heard.first()


def answers(view: View, source: End, target: End | str) -> bool:
    """Tell whether `target` answers an echo request."""
    payload = token()
    with source.place.hear(view.echoed(payload)) as heard:
        source.place.send(view.packet(source, target) / view.echo(7, payload))
        return bool(heard.all())


def loopback_silent(view: View, source: End, port: int) -> None:
    """A datagram of `source`'s to 127.0.0.1 has not come to who listens there on the host."""
    payload = token()
    with view.stage.host.ip_socket(4, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", port))
        listening.settimeout(0.2)
        source.place.send(view.packet(source, "127.0.0.1") / view.udp(port, port, payload))
        try:
            said = listening.recv(100)
        except TimeoutError:
            return
    raise Failed(f"{said!r} came")


@case("isolation-networks", "docs/firewall.md")
def networks(view: View) -> None:
    """A container does not reach one of another network, whichever of the two begins."""
    ann, cat = view.at("ann"), view.at("cat")
    expect(not arrives(view, ann, cat), "a packet came from lan to other")
    expect(not arrives(view, cat, ann), "a packet came from other to lan")


@case("isolation-networks-ping", "docs/firewall.md")
def networks_ping(view: View) -> None:
    """An echo request does not cross networks either."""
    expect(not answers(view, view.at("ann"), view.at("cat")), "it was answered")


@case("isolation-networks-published", "docs/firewall.md")
def networks_published(view: View) -> None:
    """A published port is not open at the container's own address, to another network."""
    ann, cat = view.at("ann"), view.at("cat")
    expect(not arrives(view, cat, ann, port=53), "a packet came to a published port without translation")


@case("isolation-direct", "moby/moby#49792")
def direct(view: View) -> None:
    """From outside nobody reaches a container by a route to its own address."""
    expect(not arrives(view, view.outside, view.at("bob")), "it came")


@case("isolation-direct-published", "moby/moby#49792")
def direct_published(view: View) -> None:
    """Nor the port that it has published, other than by the host's address."""
    expect(not arrives(view, view.outside, view.at("ann"), port=53), "it came")


@case("isolation-direct-established", "RFC 4787 REQ-8")
def direct_established(view: View) -> None:
    """A container that has sent something to a host outside is not thereby open to it on other ports."""
    bob, payload = view.at("bob"), token()
    with view.outside.place.hear(has(payload)) as heard:
        bob.place.send(view.packet(bob, view.outside) / view.udp(4101, 4101, payload))
        heard.first()
    expect(not arrives(view, view.outside, bob, port=4102), "it came")


@case("isolation-host", "Docker's documentation: the host reaches its containers")
def from_host(view: View) -> None:
    """The host itself reaches a container on any port."""
    bob = view.at("bob")
    with view.udp_at(bob, 4103) as listening, view.stage.host.ip_socket(view.version, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"from the host", (bob.ip, 4103))
        try:
            said = listening.recv(100)
        except TimeoutError as exc:
            raise Failed("it did not come") from exc
    expect(said == b"from the host", f"{said!r} came")


@case("isolation-loopback", "CVE-2020-8558", versions=(4,))
def loopback(view: View) -> None:
    """What listens on the host's 127.0.0.1 is not reached by a container, whatever it writes on its packets."""
    loopback_silent(view, view.at("ann"), 4104)


@case("isolation-loopback-outside", "CVE-2020-8558", versions=(4,))
def loopback_outside(view: View) -> None:
    """What listens on the host's 127.0.0.1 is not reached from outside either."""
    loopback_silent(view, view.outside, 4105)


@case("internal-inside", "docker network create --internal")
def internal_inside(view: View) -> None:
    """Containers of an internal network reach each other."""
    ping(view, view.at("dan"), view.at("eve"))


@case("internal-no-way-out", "docker network create --internal; CVE-2024-29018")
def internal_out(view: View) -> None:
    """Not a packet leaves an internal network, not even one that is sent to the host's MAC address."""
    dan, payload = view.at("dan"), token()
    frame = view.packet(dan, view.outside) / view.udp(4106, 4106, payload)
    frame.dst = dan.next_hop or BROADCAST
    with view.outside.place.hear(has(payload)) as heard:
        dan.place.send(frame)
        heard.none()


@case("internal-no-way-to-others", "docker network create --internal")
def internal_others(view: View) -> None:
    """An internal network's container reaches none of another network."""
    dan, ann, payload = view.at("dan"), view.at("ann"), token()
    frame = view.packet(dan, ann) / view.udp(4107, 4107, payload)
    frame.dst = dan.next_hop or BROADCAST
    with ann.place.hear(has(payload)) as heard:
        dan.place.send(frame)
        heard.none()


@case("internal-no-way-in", "docker network create --internal")
def internal_in(view: View) -> None:
    """Neither other networks nor hosts outside reach a container of an internal network."""
    dan = view.at("dan")
    expect(not arrives(view, view.at("ann"), dan), "it came from another network")
    expect(not arrives(view, view.outside, dan), "it came from outside")


@case("internal-not-published", "docker network create --internal")
def internal_published(view: View) -> None:
    """A port of an internal network's container is not published."""
    closed(view, view.ghost, view.at("dan"), 5386)


@case("icc-off", "com.docker.network.bridge.enable_icc")
def icc_off(view: View) -> None:
    """Without inter-container communication neighbours do not reach each other."""
    fay, gus = view.at("fay"), view.at("gus")
    expect(not arrives(view, fay, gus, by_gateway=False), "it came")


@case("icc-off-by-gateway", "com.docker.network.bridge.enable_icc; moby/moby#48411")
def icc_off_by_gateway(view: View) -> None:
    """Nor when they send by way of the gateway."""
    expect(not arrives(view, view.at("fay"), view.at("gus")), "it came")


@case("icc-off-outside", "com.docker.network.bridge.enable_icc")
def icc_off_outside(view: View) -> None:
    """They do reach the gateway, and hosts outside."""
    fay = view.at("fay")
    ping(view, fay, fay.gateway)
    ping(view, fay, view.outside)


@case("icc-off-published", "com.docker.network.bridge.enable_icc")
def icc_off_published(view: View) -> None:
    """What is published is open from outside all the same."""
    published(view, view.ghost, view.at("fay"), 5382)


@case("routed-published", "com.docker.network.bridge.gateway_mode_ipv4=routed")
def routed_published(view: View) -> None:
    """In a routed network a published port is open at the container's own address, from outside."""
    reaches(view, view.outside, view.at("jim"), port=53)


@case("routed-others", "com.docker.network.bridge.gateway_mode_ipv4=routed")
def routed_others(view: View) -> None:
    """In a routed network no other port is open."""
    expect(not arrives(view, view.outside, view.at("jim"), port=4110), "it came")


@case("routed-ping", "com.docker.network.bridge.gateway_mode_ipv4=routed; RFC 4890 4.3.1")
def routed_ping(view: View) -> None:
    """In a routed network containers answer echo requests from outside."""
    jim = view.at("jim")
    payload = token()
    view.outside.place.ask(view.packet(view.outside, jim) / view.echo(8, payload), view.echoed(payload))


@case("routed-source", "com.docker.network.bridge.gateway_mode_ipv4=routed")
def routed_source(view: View) -> None:
    """In a routed network a container's packets leave with its own address."""
    jim, payload = view.at("jim"), token()
    with view.outside.place.hear(has(payload)) as heard:
        jim.place.send(view.packet(jim, view.outside) / view.udp(4111, 4111, payload))
        arrived = view.ip_of(heard.first())
    expect(arrived.src == jim.ip, f"it carries {arrived.src}")


@case("routed-not-at-host", "com.docker.network.bridge.gateway_mode_ipv4=routed")
def routed_not_at_host(view: View) -> None:
    """In a routed network ports are not open at the host's address."""
    closed(view, view.ghost, view.at("jim"), 5383)


@case("unprotected-in", "com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected")
def unprotected(view: View) -> None:
    """In a network without protection every port is open at the container's own address."""
    reaches(view, view.outside, view.at("kim"))


@case("unprotected-source", "com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected")
def unprotected_source(view: View) -> None:
    """A network without protection is translated all the same."""
    kim, payload = view.at("kim"), token()
    with view.outside.place.hear(has(payload)) as heard:
        kim.place.send(view.packet(kim, view.outside) / view.udp(4113, 4113, payload))
        arrived = view.ip_of(heard.first())
    expect(arrived.src == view.wire.host, f"it carries {arrived.src}")


@case("chosen-sources", "moby/moby#22054", needs=("publish_from",))
def chosen(view: View) -> None:
    """A port that is published for chosen sources is open to them, and closed to others."""
    ned, payload = view.at("ned"), token()
    with ned.place.hear(has(payload)) as heard:
        view.ghost.place.send(view.packet(view.ghost, view.wire.host) / view.udp(4114, 5384, payload))
        heard.none("a packet of others")
        view.outside.place.send(view.packet(view.outside, view.wire.host) / view.udp(4114, 5384, payload))
        heard.first("a packet of the chosen")
