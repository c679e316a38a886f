"""What an endpoint may send and what not: real frames, seen or not seen by a neighbour."""

import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from netplugin.kernel.firewall.nfnetlink import Nfnetlink
from netplugin.kernel.traffic.antispoof import TABLE, SourceGuards
from netplugin.kernel.traffic.shaping import Shapers
from netplugin.resources import Shaper, SourceGuard
from pluginkit.errors import KernelError, NotFound
from tests.network.sandboxes import BRIDGE, GATEWAY4, GATEWAY6, command
from tests.network.spoofed_frames import (
    ALLOWED,
    LOCAL,
    MAC,
    MAC3,
    NEIGHBOUR4,
    NEIGHBOUR6,
    NEIGHBOUR_LOCAL,
    OWN4,
    OWN6,
    REFUSED,
    ether,
    ip,
    ip6,
)

pytestmark = pytest.mark.usefixtures("netns")

EVERY_PROTOCOL = 0x0003
WANT = SourceGuard("pnv00000002", MAC, (IPv4Address(OWN4),), (IPv6Address(OWN6),))


@pytest.fixture
def guards(netlink, containers):
    nfnetlink = Nfnetlink()
    yield SourceGuards(netlink, nfnetlink)
    nfnetlink.close()


class Wire:
    """Frames that leave `sender`, and which of them reach `receiver`."""

    def __init__(self, sender, receiver):
        self._out = sender.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._out.bind(("eth0", EVERY_PROTOCOL))
        self._into = receiver.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
        self._into.bind(("eth0", EVERY_PROTOCOL))
        self._sender = sender
        self._number = 0

    def close(self):
        self._out.close()
        self._into.close()

    def passes(self, frame):
        """Tell whether a frame arrived before another that was sent after it and always arrives."""
        self._number += 1
        mark = f"end of {self._number}".encode()
        sentinel = ether(self._sender.mac) / IP(src=self._sender.address4) / UDP(sport=9, dport=9) / Raw(mark)
        content = bytes(frame)
        self._out.send(content)
        self._out.send(bytes(sentinel))
        seen = False
        while mark not in (arrived := self._into.recv(4096)):
            # Short frames may be padded on their way; a tag is shown apart from the frame.
            seen |= arrived.startswith(content) or (frame.haslayer(Dot1Q) and content[18:] in arrived)
        return seen


@pytest.fixture
def wire(containers):
    with closing(Wire(containers[0], containers[1])) as wire:
        yield wire


def test_without_a_guard_everything_passes(wire):
    assert [case.name for case in (*ALLOWED, *REFUSED) if not wire.passes(case.frame)] == []


def test_what_is_its_own_passes_and_is_not_counted(guards, wire):
    guards.ensure(WANT)
    assert [case.name for case in ALLOWED if not wire.passes(case.frame)] == []
    assert set(guards.dropped().values()) == {0}


def test_what_is_not_its_own_is_dropped_and_counted(guards, wire):
    guards.ensure(WANT)
    for case in REFUSED:
        before = guards.dropped()
        assert (case.name, wire.passes(case.frame)) == (case.name, False)
        after = guards.dropped()
        rose = {reason: after[reason] - before[reason] for reason in after if after[reason] != before[reason]}
        assert (case.name, rose) == (case.name, {case.reason: 1})


def test_a_port_without_a_guard_is_not_concerned(guards, containers):
    guards.ensure(WANT)
    with closing(Wire(containers[2], containers[1])) as wire:
        assert [case.name for case in (*ALLOWED, *REFUSED) if not wire.passes(case.frame)] == []


def test_a_shaped_port_is_guarded_as_well(netlink, guards, wire):
    Shapers(netlink).ensure(Shaper(WANT.link, "pni00000002", 100_000_000, 100_000_000))
    guards.ensure(WANT)
    assert wire.passes(ip(OWN4) / ICMP())
    assert not wire.passes(ip(NEIGHBOUR4) / ICMP())
    assert guards.dropped()["ipv4"] == 1


def test_several_addresses_of_one_endpoint(guards, wire):
    more4, more6 = "10.9.0.77", "2001:db8::77"
    guards.ensure(
        replace(
            WANT,
            addresses4=(*WANT.addresses4, IPv4Address(more4)),
            addresses6=(*WANT.addresses6, IPv6Address(more6)),
        )
    )
    assert wire.passes(ip(more4) / ICMP())
    assert wire.passes(ip6(more6) / ICMPv6EchoRequest())
    assert wire.passes(ip(OWN4) / ICMP())
    guards.ensure(WANT)
    assert not wire.passes(ip(more4) / ICMP())
    assert not wire.passes(ip6(more6) / ICMPv6EchoRequest())
    assert wire.passes(ip(OWN4) / ICMP())


def test_two_guards_do_not_lend_each_other_addresses(guards, containers, wire):
    guards.ensure(WANT)
    guards.ensure(SourceGuard("pnv00000003", MAC3, (IPv4Address(NEIGHBOUR4),), ()))
    assert not wire.passes(ip(NEIGHBOUR4) / ICMP())
    assert not wire.passes(ether(MAC3) / IP(src=NEIGHBOUR4, dst=OWN4) / ICMP())
    with closing(Wire(containers[1], containers[0])) as back:
        assert back.passes(ether(MAC3) / IP(src=NEIGHBOUR4, dst=OWN4) / ICMP())
        assert not back.passes(ether(MAC3) / IP(src=OWN4, dst=OWN4) / ICMP())


def learnt_at(mac):
    """Return the ports at which the bridge has seen `mac`."""
    lines = command("bridge", "fdb", "show", "br", BRIDGE).splitlines()
    return [line.split()[2] for line in lines if line.startswith(mac) and "permanent" not in line]


def moves(wire, frame):
    """Tell whether the bridge believes a source; what the real one sends by itself may win now and then."""
    for _ in range(10):
        wire.passes(frame)
        if learnt_at(MAC3) == ["pnv00000002"]:
            return True
    return False


def test_the_bridge_does_not_learn_from_what_is_dropped(guards, containers, wire):
    containers[1].run("ping", "-c1", "-W2", GATEWAY4)
    assert learnt_at(MAC3) == ["pnv00000003"]
    # Frames to these groups are not forwarded; the bridge itself takes them, and learns.
    groups = [Ether(src=MAC3, dst=f"01:80:c2:00:00:0{last:x}", type=0x88CC) / Raw(bytes(46)) for last in range(16)]
    assert moves(wire, groups[14])
    containers[1].run("ping", "-c1", "-W2", GATEWAY4)
    assert learnt_at(MAC3) == ["pnv00000003"]
    guards.ensure(WANT)
    assert not any(wire.passes(frame) for frame in groups)
    assert not wire.passes(ether(MAC3) / IP(src=OWN4, dst=NEIGHBOUR4) / ICMP())
    assert learnt_at(MAC3) == ["pnv00000003"]
    # All but the pause frame, which the bridge drops by itself.
    assert guards.dropped()["mac"] == 16
    guards.remove(WANT)
    assert moves(wire, groups[14])


def test_a_flood_of_macs_leaves_the_bridge_as_it_was(guards, containers, wire):
    guards.ensure(WANT)
    before = len(command("bridge", "fdb", "show", "br", BRIDGE).splitlines())
    with closing(containers[0].socket(socket.AF_PACKET, socket.SOCK_RAW)) as out:
        out.bind(("eth0", EVERY_PROTOCOL))
        tail = bytes(ether() / IP(src=OWN4, dst=NEIGHBOUR4) / ICMP())[12:]
        for number in range(10_000):
            out.send(bytes.fromhex(MAC3.replace(":", "")) + b"\x02\x77" + number.to_bytes(4, "big") + tail)
    assert wire.passes(ip(OWN4) / ICMP())
    assert guards.dropped()["mac"] == 10_000
    assert len(command("bridge", "fdb", "show", "br", BRIDGE).splitlines()) <= before + 3


def test_a_container_that_behaves_notices_nothing(guards, containers):
    one, other, _ = containers
    guards.ensure(WANT)
    guards.ensure(SourceGuard("pnv00000003", MAC3, (IPv4Address(NEIGHBOUR4),), (IPv6Address(NEIGHBOUR6),)))
    # Again from the start, with duplicate address detection for both addresses.
    one.run("ip", "link", "set", "eth0", "down")
    one.run("ip", "link", "set", "eth0", "up")
    one.run("ip", "addr", "add", f"{OWN6}/64", "dev", "eth0")
    deadline = time.monotonic() + 10
    while "tentative" in (text := one.run("ip", "-6", "addr", "show", "dev", "eth0")) or LOCAL not in text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "dadfailed" not in text
    for target in (GATEWAY4, NEIGHBOUR4, GATEWAY6, NEIGHBOUR6, f"{NEIGHBOUR_LOCAL}%eth0"):
        one.run("ping", "-c1", "-W2", target)
    other.run("ping", "-c1", "-W2", OWN4)
    other.run("ping", "-c1", "-W2", OWN6)
    assert set(guards.dropped().values()) == {0}


def listing():
    return command("nft", "-s", "list", "ruleset")


def test_to_ensure_twice_is_to_ensure_once(guards):
    guards.ensure(WANT)
    once = listing()
    guards.ensure(WANT)
    assert listing() == once


def test_guards_are_read_back_from_the_kernel(netlink, guards):
    other = SourceGuard("pnv00000003", MAC3, (IPv4Address(NEIGHBOUR4), IPv4Address("10.9.0.33")), ())
    for want in (WANT, other):
        guards.ensure(want)
    nfnetlink = Nfnetlink()
    with closing(nfnetlink):
        assert sorted(SourceGuards(netlink, nfnetlink).owned(), key=lambda have: have.link) == [WANT, other]


def test_the_table_goes_with_the_last_guard(guards):
    other = SourceGuard("pnv00000003", MAC3, (), ())
    assert guards.owned() == []
    assert guards.dropped() == {}
    guards.remove(WANT)
    guards.ensure(WANT)
    guards.ensure(other)
    guards.remove(WANT)
    guards.remove(WANT)
    assert [have.key for have in guards.owned()] == [other.key]
    assert '"pnv00000002"' not in listing()
    guards.remove(other)
    assert listing() == ""
    guards.ensure(WANT)
    assert guards.owned() == [WANT]


def test_what_another_process_left_is_removed(netlink, guards):
    guards.ensure(WANT)
    with closing(Nfnetlink()) as nfnetlink:
        later = SourceGuards(netlink, nfnetlink)
        later.remove(SourceGuard(WANT.link, "", (), ()))
    assert listing() == ""


@pytest.mark.parametrize(
    "drift",
    [
        ("flush", "ruleset"),
        ("delete", "table", "bridge", TABLE),
        ("flush", "table", "bridge", TABLE),
        ("flush", "chain", "bridge", TABLE, "nd_frames"),
        ("flush", "set", "bridge", TABLE, "macs"),
        ("insert", "rule", "bridge", TABLE, "prerouting", "accept"),
    ],
    ids=" ".join,
)
def test_drift_is_put_right_by_a_reconcile(guards, drift):
    other = SourceGuard("pnv00000003", MAC3, (IPv4Address(NEIGHBOUR4),), ())
    for want in (WANT, other):
        guards.ensure(want)
    before = sorted(listing().splitlines())
    command("nft", *drift)
    assert sorted(listing().splitlines()) != before
    guards.owned()
    for want in (WANT, other):
        guards.ensure(want)
    assert sorted(listing().splitlines()) == before


def test_the_rules_are_replaced_while_traffic_flows(netlink, guards, wire):
    guards.ensure(WANT)
    stop = threading.Event()

    def rewrite():
        while not stop.is_set():
            with closing(Nfnetlink()) as nfnetlink:
                # As a new process does: it cannot know which version wrote the rules.
                SourceGuards(netlink, nfnetlink).ensure(WANT)

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        assert not any(wire.passes(ip(NEIGHBOUR4) / ICMP()) for _ in range(200))
        assert all(wire.passes(ip(OWN4) / ICMP()) for _ in range(200))
    finally:
        stop.set()
        thread.join()


def test_a_link_that_is_gone_says_so(guards):
    guards.ensure(WANT)
    command("ip", "link", "del", WANT.link)
    with pytest.raises(NotFound, match="cannot guard pnv00000002: the link is gone"):
        guards.ensure(WANT)
    guards.remove(WANT)
    assert listing() == ""


def test_what_is_missing_is_named(guards):
    program = (
        "from netplugin.kernel.traffic.antispoof import TABLE, SourceGuards\n"
        "from netplugin.kernel.netlink import Netlink; from netplugin.kernel.firewall.nfnetlink import Nfnetlink\n"
        "SourceGuards(Netlink(), Nfnetlink())._write()"
    )
    # Without the privilege the kernel refuses the table, as it does where it has none of the family.
    words = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-c", program)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert f"{KernelError.__name__}: cannot create table bridge {TABLE}: Operation not permitted (EPERM)" in done.stderr
    assert "anti_spoof needs nf_tables for bridges in the kernel (CONFIG_NF_TABLES_BRIDGE) and nft" in done.stderr
