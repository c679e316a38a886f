"""ARP: who answers for an address, and who does not."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_network
from typing import Any

from scapy.layers.l2 import ARP

from netplugin.conform.case import Area
from netplugin.conform.place import PROXY_S
from netplugin.conform.view import End, View
from pluginkit.conform.case import expect

case = Area("ARP")

NOBODY = str(IPv4Address(0))


def is_reply(frame: Any) -> bool:
    """Tell whether the frame is an ARP reply."""
    return ARP in frame and frame[ARP].op == 2


def free_address(ann: End, prefix: int = 24) -> str:
    """Return an address of ann's network that nobody has."""
    return str(ip_network(f"{ann.ip}/{prefix}", strict=False)[-6])


@case("arp-gateway-once", "RFC 826; RFC 5227 2.4", versions=(4,))
def gateway(view: View) -> None:
    """A request for the gateway is answered exactly once, straight to who asked."""
    ann = view.at("ann")
    with ann.place.hear(is_reply) as heard:
        ann.place.send(view.solicitation(ann.mac, ann.ip, ann.gateway))
        answers = heard.all()
    expect(len(answers) == 1, f"{len(answers)} answers")
    reply = answers[0]
    expect(reply.dst == ann.mac and reply[ARP].hwdst == ann.mac, f"the answer went to {reply.dst}")
    expect(reply.src == reply[ARP].hwsrc == ann.next_hop, f"{reply.src} says that it is at {reply[ARP].hwsrc}")


@case("arp-neighbour", "RFC 826", versions=(4,))
def neighbour(view: View) -> None:
    """A request for a neighbour is answered exactly once, with the neighbour's own MAC address."""
    ann, there = view.at("ann"), view.neighbour
    with ann.place.hear(is_reply) as heard:
        ann.place.send(view.solicitation(ann.mac, ann.ip, there.ip))
        answers = heard.all()
    expect([reply[ARP].hwsrc for reply in answers] == [there.mac], f"answers: {[a.summary() for a in answers]}")


@case("arp-free-silent", "RFC 826; RFC 5227 2.1", versions=(4,))
def free(view: View) -> None:
    """Nobody answers for an address that nobody has."""
    ann = view.at("ann")
    with ann.place.hear(is_reply) as heard:
        ann.place.send(view.solicitation(ann.mac, ann.ip, free_address(ann)))
        heard.none("an answer")


@case("arp-probe-taken", "RFC 5227 2.1.1", versions=(4,))
def probe_taken(view: View) -> None:
    """A probe, which has no sender address, for a neighbour's address is answered."""
    ann, there = view.at("ann"), view.neighbour
    answer = ann.place.ask(view.solicitation(ann.mac, NOBODY, there.ip), is_reply)
    expect(answer[ARP].psrc == there.ip and answer[ARP].hwsrc == there.mac, answer.summary())


@case("arp-probe-free", "RFC 5227 2.1.1", versions=(4,))
def probe_free(view: View) -> None:
    """A probe for a free address is not answered, so that it can be taken."""
    ann = view.at("ann")
    with ann.place.hear(is_reply) as heard:
        ann.place.send(view.solicitation(ann.mac, NOBODY, free_address(ann)))
        heard.none("an answer")


@case("arp-no-proxy", "RFC 1027", versions=(4,))
def no_proxy(view: View) -> None:
    """The gateway does not answer for containers of other networks, nor for hosts outside."""
    ann = view.at("ann")
    with ann.place.hear(is_reply) as heard:
        for target in (view.at("cat").ip, view.outside.ip):
            ann.place.send(view.solicitation(ann.mac, ann.ip, target))
        heard.none("an answer", PROXY_S)


@case("arp-stays", "RFC 826", versions=(4,))
def stays(view: View) -> None:
    """A request is heard by a neighbour, and by nobody on another network or outside."""
    ann, cat = view.at("ann"), view.at("cat")
    target = free_address(ann)

    def asks(frame: Any) -> bool:
        return ARP in frame and frame[ARP].op == 1 and frame[ARP].pdst == target

    with view.neighbour.place.hear(asks) as near, cat.place.hear(asks) as other, view.outside.place.hear(asks) as out:
        ann.place.send(view.solicitation(ann.mac, ann.ip, target))
        near.first("the request")
        other.none("the request, on another network,")
        out.none("the request, outside,", 0.02)


@case("arp-announced", "RFC 5227 2.3; moby/libnetwork#1783", versions=(4,), needs=("comes",))
def announced(view: View) -> None:
    """A neighbour hears an announcement when a container comes, so that no old entry outlives it."""
    bob = view.neighbour
    with bob.place.hear(lambda frame: ARP in frame and frame[ARP].psrc == frame[ARP].pdst) as heard:
        eva = view.at("eva")
        try:
            said = heard.first("an announcement")
            expect(said[ARP].psrc == eva.ip and said[ARP].hwsrc == eva.mac, said.summary())
        finally:
            view.forget("eva")
