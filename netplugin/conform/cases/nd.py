"""Neighbour discovery: who answers for an address, and what the host does not believe."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_network
from typing import Any

from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    IPv6,
)
from scapy.layers.l2 import Ether

from netplugin.conform.case import Area
from netplugin.conform.place import PROXY_S
from netplugin.conform.view import End, View
from pluginkit.conform.case import expect

case = Area("ND")

ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
# Nobody's: no host may come to have an address in it because a container says so.
ROGUE_PREFIX = "2001:db8:bad::"


def free_address(ann: End) -> str:
    """Return an address of ann's network that nobody has."""
    return str(ip_network(f"{ann.ip}/64", strict=False)[0xDEAD])


def link_local(mac: str) -> str:
    """Return the link-local address that is made of a MAC address (RFC 4291, appendix A)."""
    return _made_of("fe80::", mac)


def _made_of(prefix: str, mac: str) -> str:
    octets = [int(octet, 16) for octet in mac.split(":")]
    ident = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return str(IPv6Address(int(IPv6Address(prefix)) | int.from_bytes(ident)))


@case("nd-gateway", "RFC 4861 7.2.4", versions=(6,))
def gateway(view: View) -> None:
    """A solicitation for the gateway is answered once: solicited, overriding, by a router, with its MAC address."""
    ann = view.at("ann")
    with ann.place.hear(lambda frame: view.is_answer(frame, ann.gateway)) as heard:
        ann.place.send(view.solicitation(ann.mac, ann.ip, ann.gateway))
        answers = heard.all()
    expect(len(answers) == 1, f"{len(answers)} answers")
    reply = answers[0]
    flags = reply[ICMPv6ND_NA].S, reply[ICMPv6ND_NA].O, reply[ICMPv6ND_NA].R
    expect(flags == (1, 1, 1), f"S, O, R are {flags}")
    expect(reply[IPv6].dst == ann.ip and reply[IPv6].hlim == 255, reply.summary())
    expect(reply[ICMPv6NDOptDstLLAddr].lladdr == reply.src == ann.next_hop, f"from {reply.src}")


@case("nd-neighbour", "RFC 4861 7.2.4", versions=(6,))
def neighbour(view: View) -> None:
    """A solicitation for a neighbour is answered exactly once, with the neighbour's own MAC address."""
    ann, there = view.at("ann"), view.neighbour
    with ann.place.hear(lambda frame: view.is_answer(frame, there.ip)) as heard:
        ann.place.send(view.solicitation(ann.mac, ann.ip, there.ip))
        answers = heard.all()
    expect([a[ICMPv6NDOptDstLLAddr].lladdr for a in answers] == [there.mac], f"{len(answers)} answers")


@case("nd-free-silent", "RFC 4861 7.2.4", versions=(6,))
def free(view: View) -> None:
    """Nobody answers for an address that nobody has."""
    ann = view.at("ann")
    with ann.place.hear(lambda frame: ICMPv6ND_NA in frame) as heard:
        ann.place.send(view.solicitation(ann.mac, ann.ip, free_address(ann)))
        heard.none("an answer")


@case("nd-duplicate", "RFC 4862 5.4.3; RFC 4861 7.2.4", versions=(6,))
def duplicate(view: View) -> None:
    """Who looks for duplicates of a neighbour's address is told by all nodes' address, unsolicited."""
    ann, there = view.at("ann"), view.neighbour
    frame = view.solicitation(ann.mac, ann.ip, there.ip)
    frame[IPv6].src = "::"
    # From nowhere a solicitation has no option (RFC 4861 4.3).
    frame[ICMPv6ND_NS].remove_payload()
    answer = ann.place.ask(frame, lambda heard: view.is_answer(heard, there.ip))
    expect(answer[IPv6].dst == ALL_NODES and answer[ICMPv6ND_NA].S == 0, answer.summary())


@case("nd-no-proxy", "RFC 4389", versions=(6,))
def no_proxy(view: View) -> None:
    """The gateway does not answer for containers of other networks, nor for hosts outside."""
    ann = view.at("ann")
    with ann.place.hear(lambda frame: ICMPv6ND_NA in frame and frame[ICMPv6ND_NA].tgt != ann.gateway) as heard:
        for target in (view.at("cat").ip, view.outside.ip):
            ann.place.send(view.solicitation(ann.mac, ann.ip, target))
        heard.none("an answer", PROXY_S)


@case("nd-far-away", "RFC 4861 7.1.1; v6LC.2.1.3", versions=(6,))
def far_away(view: View) -> None:
    """The gateway ignores a solicitation that has passed a router: its hop limit is not 255."""
    ann = view.at("ann")
    frame = view.solicitation(ann.mac, ann.ip, ann.gateway)
    ann.place.ask(frame, lambda heard: view.is_answer(heard, ann.gateway))
    frame[IPv6].hlim = 254
    with ann.place.hear(lambda heard: view.is_answer(heard, ann.gateway)) as heard:
        ann.place.send(frame)
        heard.none("an answer")


@case("nd-router-not-believed", "RFC 6104; CVE-2020-13401", versions=(6,))
def router_not_believed(view: View) -> None:
    """The host takes no address from a router advertisement of a container's."""
    ann = view.at("ann")
    frame = Ether(src=ann.mac, dst=ALL_NODES_MAC) / IPv6(src=link_local(ann.mac), dst=ALL_NODES, hlim=255)
    frame /= ICMPv6ND_RA(routerlifetime=1800) / ICMPv6NDOptPrefixInfo(prefix=ROGUE_PREFIX, prefixlen=64, L=1, A=1)
    wanted = _made_of(ROGUE_PREFIX, ann.next_hop)

    def claims(heard: Any) -> bool:
        return ICMPv6ND_NS in heard and heard[ICMPv6ND_NS].tgt == wanted

    with ann.place.hear(claims) as heard:
        ann.place.send(frame)
        # It would first look for duplicates, within a second (RFC 4862 5.4.2).
        heard.none("a look for duplicates of an address that a container announced", 1.3)


@case("nd-no-router", "RFC 4861 6.2.6", versions=(6,))
def no_router(view: View) -> None:
    """Who asks for routers is told nothing: the engine has configured the container."""
    ann = view.at("ann")
    frame = Ether(src=ann.mac, dst="33:33:00:00:00:02") / IPv6(src=link_local(ann.mac), dst="ff02::2", hlim=255)
    with ann.place.hear(lambda heard: ICMPv6ND_RA in heard) as heard:
        ann.place.send(frame / ICMPv6ND_RS())
        # A router waits for half a second at most.
        heard.none("a router advertisement", 0.6)


@case("nd-stays", "RFC 4291 2.7.1", versions=(6,))
def stays(view: View) -> None:
    """A solicitation reaches a neighbour, and nobody on another network or outside."""
    ann, cat = view.at("ann"), view.at("cat")
    target = free_address(ann)

    def asks(frame: Any) -> bool:
        return ICMPv6ND_NS in frame and frame[ICMPv6ND_NS].tgt == target

    with view.neighbour.place.hear(asks) as near, cat.place.hear(asks) as other, view.outside.place.hear(asks) as out:
        ann.place.send(view.solicitation(ann.mac, ann.ip, target))
        near.first("the solicitation")
        other.none("the solicitation, on another network,")
        out.none("the solicitation, outside,", 0.02)


@case("nd-announced", "RFC 4861 7.2.6; moby/libnetwork#1783", versions=(6,), needs=("comes",))
def announced(view: View) -> None:
    """A neighbour hears an unsolicited advertisement when a container comes."""
    bob = view.neighbour
    with bob.place.hear(lambda frame: ICMPv6ND_NA in frame and frame[ICMPv6ND_NA].S == 0) as heard:
        eva = view.at("eva")
        try:
            said = heard.first("an announcement")
            expect(said[ICMPv6ND_NA].tgt == eva.ip, said.summary())
            expect(said[ICMPv6NDOptDstLLAddr].lladdr == eva.mac, said.summary())
        finally:
            view.forget("eva")
