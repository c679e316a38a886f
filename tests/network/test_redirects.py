"""Frames that go elsewhere before they enter the bridge: which ones, and how they come out."""

import json
import socket
import struct
from dataclasses import replace
from ipaddress import ip_address

import pytest

from netplugin.kernel.traffic.redirects import Redirects
from netplugin.resources import Redirect
from pluginkit.errors import NotFound
from tests.network.sandboxes import BRIDGE, GATEWAY4, GATEWAY6, command

LINK, IFB = "pnv00000002", "pni00000002"
MAC, ADDRESSES = "02:42:0a:09:00:02", (ip_address("10.9.0.2"), ip_address("fd09::2"))
ALL = Redirect(LINK, IFB)
LEAVING = Redirect(LINK, IFB, BRIDGE)
STRAIGHT = Redirect(LINK, BRIDGE, BRIDGE, MAC, ADDRESSES)
EVERY = pytest.mark.parametrize("want", [ALL, LEAVING, STRAIGHT], ids=["all", "leaving", "straight"])
BRIDGE_MAC = bytes.fromhex("020000000001")


@pytest.fixture
def redirects(netlink, containers):
    command("ip", "link", "add", IFB, "type", "ifb")
    command("ip", "link", "set", IFB, "up")
    return Redirects(netlink)


def filters():
    return command("tc", "filter", "show", "dev", LINK, "ingress")


def sent(link):
    """Return how many frames the link has sent; an ifb device sends what it gives back."""
    return json.loads(command("ip", "-json", "-s", "link", "show", link))[0]["stats64"]["tx"]["packets"]


def pings(container, *targets):
    return [container.run("ping", "-c1", "-W2", target).count("1 received") for target in targets]


def test_all_frames_go_through_the_queue(redirects, containers):
    one, other, _ = containers
    pings(one, GATEWAY4, other.address4)  # whatever is asked for once
    redirects.ensure(ALL)
    before = sent(IFB)
    assert pings(one, GATEWAY4, GATEWAY6, other.address4, other.address6) == [1, 1, 1, 1]
    assert sent(IFB) - before >= 4


def test_only_what_leaves_goes_through_the_queue_of_a_network(redirects, containers):
    one, other, _ = containers
    redirects.ensure(LEAVING)
    pings(one, GATEWAY4, other.address4, other.address6)
    before = sent(IFB)
    assert pings(one, other.address4, other.address6) == [1, 1]
    assert sent(IFB) == before
    assert pings(one, GATEWAY4, GATEWAY6) == [1, 1]
    assert sent(IFB) - before >= 2


def test_what_goes_straight_to_the_host_does_not_enter_the_bridge(redirects, containers):
    one, other, _ = containers
    redirects.ensure(STRAIGHT)
    command("nft", "add table bridge t; add chain bridge t c { type filter hook prerouting priority -300; }")
    command("nft", f"add rule bridge t c iifname {LINK} ether daddr 02:00:00:00:00:01 ip saddr 0.0.0.0/0 drop")
    command("nft", f"add rule bridge t c iifname {LINK} ether daddr 02:00:00:00:00:01 ip6 saddr fd00::/8 drop")
    assert pings(one, GATEWAY4, GATEWAY6, other.address4, other.address6) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("source_mac", "source"), [(MAC, "10.9.0.99"), ("02:99:99:99:99:99", "10.9.0.2")], ids=["address", "mac"]
)
def test_what_comes_from_somebody_else_takes_the_way_through_the_bridge(redirects, containers, source_mac, source):
    one, _, _ = containers
    redirects.ensure(STRAIGHT)
    command("nft", "add table bridge t; add counter bridge t seen")
    command("nft", "add chain bridge t c { type filter hook prerouting priority -300; }")
    command("nft", "add rule bridge t c ether daddr 02:00:00:00:00:01 counter name seen")

    def send(mac, address):
        header = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20, 0, 0, 64, 59, 0, socket.inet_aton(address), b"\x0a\x09\x00\x01"
        )
        frame = BRIDGE_MAC + bytes.fromhex(mac.replace(":", "")) + b"\x08\x00" + header
        with one.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as raw:
            raw.bind(("eth0", 0))
            raw.send(frame)

    def seen():
        return int(command("nft", "list", "counter", "bridge", "t", "seen").split("packets ")[1].split()[0])

    send(MAC, one.address4)
    assert seen() == 0
    send(source_mac, source)
    assert seen() == 1


def test_the_bridge_knows_who_is_behind_a_port_from_which_nothing_comes(redirects, containers):
    redirects.ensure(STRAIGHT)
    assert f"{MAC} dev {LINK} master {BRIDGE} static" in command("bridge", "fdb", "show", "br", BRIDGE)


@EVERY
def test_to_ensure_twice_is_to_ensure_once(redirects, want):
    redirects.ensure(want)
    once = filters()
    assert "Redirect to device" in once
    redirects.ensure(want)
    assert filters() == once


@EVERY
@pytest.mark.parametrize(
    "drift", ["tc qdisc del dev pnv00000002 ingress", "tc filter del dev pnv00000002 ingress prio 20569"]
)
def test_drift_is_put_right(redirects, containers, want, drift):
    redirects.ensure(want)
    once = filters()
    command(*drift.split())
    assert "Redirect to device" not in filters()
    redirects.ensure(want)
    assert filters().count("match") == once.count("match")
    assert pings(containers[0], GATEWAY4, GATEWAY6) == [1, 1]


def test_a_queue_that_was_made_again_is_found(redirects, containers):
    redirects.ensure(ALL)
    command("ip", "link", "del", IFB)
    command("ip", "link", "add", IFB, "type", "ifb")
    command("ip", "link", "set", IFB, "up")
    redirects.ensure(ALL)
    assert pings(containers[0], GATEWAY4) == [1]


def test_a_bridge_with_another_address_is_still_met(redirects, containers):
    redirects.ensure(STRAIGHT)
    command("ip", "link", "set", BRIDGE, "address", "02:00:00:00:00:77")
    redirects.ensure(STRAIGHT)
    command("nft", "add table bridge t; add chain bridge t c { type filter hook prerouting priority -300; }")
    command("nft", f"add rule bridge t c iifname {LINK} ip saddr 0.0.0.0/0 drop")
    assert pings(containers[0], GATEWAY4) == [1]


@pytest.mark.parametrize("then", [LEAVING, STRAIGHT], ids=["leaving", "straight"])
def test_one_replaces_another(redirects, then):
    redirects.ensure(then)
    wanted = filters()
    redirects.ensure(ALL)
    redirects.ensure(then)
    assert filters().count("match") == wanted.count("match")
    assert filters().count("Redirect") == wanted.count("Redirect")


@EVERY
def test_what_is_removed_leaves_nothing_and_is_removed_again(redirects, want):
    redirects.ensure(want)
    assert [have.key for have in redirects.owned()] == [want.key]
    redirects.remove(want)
    redirects.remove(want)
    assert filters() == ""
    assert "ingress" not in command("tc", "qdisc", "show", "dev", LINK)
    assert list(redirects.owned()) == []


def test_filters_of_somebody_else_are_left_alone(redirects):
    command("tc", "qdisc", "add", "dev", LINK, "clsact")
    theirs = "ingress prio 7 protocol ip u32 match u32 0 0 classid 1:1"
    command("tc", "filter", "add", "dev", LINK, *theirs.split())
    before = filters()
    redirects.ensure(ALL)
    assert [have.key for have in redirects.owned()] == [ALL.key]
    redirects.remove(ALL)
    assert filters() == before
    assert list(redirects.owned()) == []
    assert "clsact" in command("tc", "qdisc", "show", "dev", LINK)


@pytest.mark.parametrize("gone", [LINK, IFB, BRIDGE])
def test_what_is_missing_is_named(redirects, gone):
    command("ip", "link", "del", gone)
    with pytest.raises(NotFound, match=f"{gone} is gone"):
        redirects.ensure(LEAVING)
    redirects.remove(replace(LEAVING, to=""))
