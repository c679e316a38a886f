"""Neighbours learn that an address has moved to another MAC."""

import socket
import subprocess
import time
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from netplugin.kernel.traffic.announce import Announcer
from tests.network.sandboxes import BRIDGE, command

pytestmark = pytest.mark.usefixtures("netns")

EVERY_PROTOCOL = 0x0003
OLD_MAC = "02:42:de:ad:00:02"
ADDRESS4, ADDRESS6 = IPv4Address("10.9.0.2"), IPv6Address("fd09::2")


@pytest.fixture
def announcer(netlink):
    return Announcer(netlink)


def listen(container):
    listener = container.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
    listener.bind(("eth0", EVERY_PROTOCOL))
    return listener


def arrived(listener, mac):
    """Return what came from `mac` until nothing has come for a while."""
    listener.settimeout(0.3)
    frames = []
    while True:
        try:
            frames.append(Ether(listener.recv(4096)))
        except TimeoutError:
            return [frame for frame in frames if frame.src == mac and (ARP in frame or ICMPv6ND_NA in frame)]


def test_every_neighbour_is_told_once_and_the_endpoint_itself_not(announcer, containers):
    own, *neighbours = containers
    with closing(listen(own)) as at_home:
        listeners = [listen(neighbour) for neighbour in neighbours]
        announcer.announce(BRIDGE, own.link, own.mac, ADDRESS4, ADDRESS6)
        for listener in listeners:
            arp, advertisement = arrived(listener, own.mac)
            listener.close()
            assert (arp.dst, arp[ARP].op, arp[ARP].hwsrc) == ("ff:ff:ff:ff:ff:ff", 1, own.mac)
            assert (arp[ARP].psrc, arp[ARP].pdst, arp[ARP].hwdst) == ("10.9.0.2", "10.9.0.2", "00:00:00:00:00:00")
            assert (advertisement.dst, advertisement[IPv6].dst) == ("33:33:00:00:00:01", "ff02::1")
            assert (advertisement[IPv6].src, advertisement[IPv6].hlim) == ("fd09::2", 255)
            message = advertisement[ICMPv6ND_NA]
            assert (message.tgt, message.R, message.S, message.O) == ("fd09::2", 0, 0, 1)
            assert advertisement[ICMPv6NDOptDstLLAddr].lladdr == own.mac
            checksum, again = message.cksum, advertisement.copy()
            del again[ICMPv6ND_NA].cksum
            assert Ether(bytes(again))[ICMPv6ND_NA].cksum == checksum
        assert arrived(at_home, own.mac) == []


@pytest.mark.parametrize(
    ("address4", "address6", "layer"), [(ADDRESS4, None, ARP), (None, ADDRESS6, ICMPv6ND_NA)], ids=["ipv4", "ipv6"]
)
def test_one_family_alone(announcer, containers, address4, address6, layer):
    own, neighbour, _ = containers
    with closing(listen(neighbour)) as listener:
        announcer.announce(BRIDGE, own.link, own.mac, address4, address6)
        frames = arrived(listener, own.mac)
    assert len(frames) == 1
    assert layer in frames[0]


def neighbour_entry(run, device, address):
    """Return the MAC that is known for `address`; "" for none."""
    words = run("ip", "neigh", "show", str(address), "dev", device).split()
    return words[words.index("lladdr") + 1] if "lladdr" in words else ""


def test_stale_entries_of_neighbours_and_of_the_host_are_corrected(announcer, containers):
    own, neighbour, _ = containers
    for run, device in ((neighbour.run, "eth0"), (command, BRIDGE)):
        for address in (ADDRESS4, ADDRESS6):
            run("ip", "neigh", "replace", str(address), "lladdr", OLD_MAC, "dev", device, "nud", "reachable")
    with pytest.raises(subprocess.CalledProcessError):
        neighbour.run("ping", "-c1", "-W1", str(ADDRESS4))
    announcer.announce(BRIDGE, own.link, own.mac, ADDRESS4, ADDRESS6)
    deadline = time.monotonic() + 3
    for run, device in ((neighbour.run, "eth0"), (command, BRIDGE)):
        for address in (ADDRESS4, ADDRESS6):
            while neighbour_entry(run, device, address) != own.mac:
                assert time.monotonic() < deadline
            run("ping", "-c1", "-W1", str(address))


def test_the_host_learns_no_neighbour_that_it_did_not_know(announcer, containers):
    own, _, _ = containers
    announcer.announce(BRIDGE, own.link, own.mac, ADDRESS4, ADDRESS6)
    assert command("ip", "neigh", "show", str(ADDRESS4), "dev", BRIDGE) == ""


def test_an_entry_that_an_administrator_made_stays(announcer, containers):
    own, _, _ = containers
    command("ip", "neigh", "replace", str(ADDRESS4), "lladdr", OLD_MAC, "dev", BRIDGE, "nud", "permanent")
    announcer.announce(BRIDGE, own.link, own.mac, ADDRESS4, ADDRESS6)
    assert neighbour_entry(command, BRIDGE, ADDRESS4) == OLD_MAC


def test_an_address_under_detection_survives_its_own_announcement(announcer, containers):
    own, _, _ = containers
    address = IPv6Address("fd09::77")
    own.run("ip", "addr", "add", f"{address}/64", "dev", "eth0")
    for _ in range(3):
        announcer.announce(BRIDGE, own.link, own.mac, None, address)
    deadline = time.monotonic() + 10
    while "tentative" in (text := own.run("ip", "-6", "addr", "show", "dev", "eth0")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "dadfailed" not in text
    assert str(address) in text


def test_a_port_that_is_down_and_a_bridge_that_is_gone_are_no_errors(announcer, containers):
    own, neighbour, other = containers
    command("ip", "link", "set", neighbour.link, "down")
    with closing(listen(other)) as listener:
        announcer.announce(BRIDGE, own.link, own.mac, ADDRESS4, ADDRESS6)
        assert len(arrived(listener, own.mac)) == 2
    announcer.announce("pn-00000000", own.link, own.mac, ADDRESS4, ADDRESS6)
