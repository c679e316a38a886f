"""The name server on a real bridge, asked by containers that behave and by others."""

import errno
import socket
import struct
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from dnslib import RCODE, DNSRecord

from netplugin.dns.resources import Named, NameServer
from netplugin.kernel.bridge import Bridges
from netplugin.kernel.firewall.nfnetlink import Nfnetlink
from netplugin.kernel.nameserver import Names, NameServers
from netplugin.kernel.overlay.guard import OverlayGuards
from netplugin.resources import Bridge, OverlayGuard
from pluginkit.errors import Conflict, KernelError
from tests.network.sandboxes import BRIDGE, GATEWAY4, GATEWAY6, Sandbox, command

GATEWAYS = (ip_address(GATEWAY4), ip_address(GATEWAY6))
SERVER = NameServer(BRIDGE, GATEWAYS, "blue", (ip_network("10.9.0.0/24"), ip_network("fd09::/64")))
BOB = Named(BRIDGE, ip_address("10.9.0.50"), ("bob",))
GUARD = OverlayGuard("pnx1a2b3c4d", "02:00:00:00:00:01", 77, 14789, names=GATEWAYS)


@pytest.fixture
def servers(containers):
    with closing(NameServers()) as servers:
        servers.ensure(SERVER)
        Names(servers).ensure(BOB)
        yield servers


@contextmanager
def client(sandbox, kind=socket.SOCK_DGRAM, address=GATEWAY4, port=53):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = sandbox.call(lambda: socket.socket(family, kind)) if sandbox else socket.socket(family, kind)
    with closing(opened):
        opened.settimeout(2)
        opened.connect((address, port))
        yield opened


def asked(opened, name="bob"):
    """The rcode, and who is said to have the name."""
    query = bytes(DNSRecord.question(name).pack())
    if opened.type == socket.SOCK_STREAM:
        opened.sendall(struct.pack("!H", len(query)) + query)
        with opened.makefile("rb") as stream:
            (size,) = struct.unpack("!H", stream.read(2))
            said = stream.read(size)
    else:
        opened.send(query)
        said = opened.recv(4096)
    reply = DNSRecord.parse(said)
    return RCODE[reply.header.rcode], [str(record.rdata) for record in reply.rr]


@pytest.mark.parametrize("address", [GATEWAY4, GATEWAY6])
@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_containers_of_the_network_are_answered(containers, servers, address, kind):
    with client(containers[0], kind, address) as opened:
        assert asked(opened) == ("NOERROR", ["10.9.0.50"])
        # Again on the same connection.
        assert asked(opened, "bill") == ("NXDOMAIN", [])
        Names(servers).ensure(replace(BOB, names=("bill",)))
        assert asked(opened, "bill") == ("NOERROR", ["10.9.0.50"])
        assert asked(opened) == ("NXDOMAIN", [])


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_containers_of_other_networks_are_refused(netlink, containers, servers, kind):
    other = Bridge("pn-00000002", "02:00:00:00:00:02", 1500, (ip_interface("10.8.0.1/24"),), "pynet network of another")
    Bridges(netlink).ensure(other)
    with closing(Sandbox()) as stranger:
        command("ip", "link", "add", "there", "type", "veth", "peer", "name", "here")
        command("ip", "link", "set", "here", "master", other.name, "up")
        stranger.take("there")
        stranger.run("ip", "link", "set", "there", "up")
        stranger.run("ip", "addr", "add", "10.8.0.2/24", "dev", "there")
        stranger.run("ip", "route", "add", "default", "via", "10.8.0.1")
        # Refused, not dropped: a resolver goes on to its next server at once.
        with pytest.raises(ConnectionRefusedError), client(stranger, kind) as opened:
            asked(opened)
    # The host itself is let in, so that a person can look.
    with client(None, kind) as opened:
        assert asked(opened) == ("NOERROR", ["10.9.0.50"])


def test_twice_is_once_and_nothing_is_left(containers, servers):
    before = command("ss", "-Hlnutep", "sport = :53")
    assert len(before.splitlines()) == 4
    servers.ensure(SERVER)
    assert command("ss", "-Hlnutep", "sport = :53") == before
    assert list(servers.owned()) == [SERVER]
    assert list(Names(servers).owned()) == [BOB]
    smaller = replace(SERVER, addresses=GATEWAYS[:1])
    servers.ensure(smaller)
    assert list(servers.owned()) == [smaller]
    servers.remove(SERVER)
    Names(servers).remove(BOB)
    assert command("ss", "-Hlnut", "sport = :53") == ""
    assert [*servers.owned(), *Names(servers).owned()] == []


def test_a_port_that_another_program_has_everywhere_is_a_conflict_and_nothing_is_left_open(containers):
    with closing(NameServers()) as servers, closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as dnsmasq:
        dnsmasq.bind(("0.0.0.0", 53))
        with pytest.raises(Conflict, match=r"python\S* \(pid \d+\) has the port on all addresses"):
            servers.ensure(SERVER)
        assert len(command("ss", "-Hlnut", "sport = :53").splitlines()) == 1
        dnsmasq.close()
        servers.ensure(SERVER)


def test_a_bridge_that_is_not_there_is_an_error(netlink):
    with closing(NameServers()) as servers, pytest.raises(KernelError) as caught:
        servers.ensure(SERVER)
    assert caught.value.code == errno.ENODEV


def test_one_client_has_four_connections_and_a_silent_one_is_closed(containers):
    with closing(NameServers(idle_s=1.0)) as servers:
        servers.ensure(SERVER)
        with client(containers[0], socket.SOCK_STREAM) as silent:
            silent.sendall(b"\0")
            with client(containers[0], socket.SOCK_STREAM) as one, client(containers[0], socket.SOCK_STREAM) as two:
                assert asked(one) == asked(two) == ("NXDOMAIN", [])
                with (
                    client(containers[0], socket.SOCK_STREAM) as three,
                    client(containers[0], socket.SOCK_STREAM) as four,
                ):
                    assert asked(three) == ("NXDOMAIN", [])
                    assert four.recv(1) == b""
                with client(containers[1], socket.SOCK_STREAM) as other:
                    assert asked(other) == ("NXDOMAIN", [])
            begin = time.monotonic()
            silent.settimeout(5)
            assert silent.recv(1) == b""
            assert time.monotonic() - begin < 3


@pytest.mark.parametrize("sent", [b"\x02\x01" + bytes(513), b"\0\1x", b"\0\0" * 200])
def test_a_connection_that_sends_no_query_harms_nobody(containers, servers, sent):
    with client(containers[0], socket.SOCK_STREAM) as hostile, client(containers[1]) as neighbour:
        hostile.sendall(sent)
        assert asked(neighbour) == ("NOERROR", ["10.9.0.50"])
    with client(containers[0], socket.SOCK_STREAM) as after:
        assert asked(after) == ("NOERROR", ["10.9.0.50"])


def test_datagrams_of_any_size_and_content_harm_nobody(containers, servers):
    with client(containers[0]) as hostile:
        for size in (0, 1, 11, 12, 512, 513, 1400, 60000):
            hostile.send(b"\xff" * size)
            hostile.send(b"\0" * size)
        hostile.send(DNSRecord.question("bob").reply().pack())
    with client(containers[0]) as opened:
        assert asked(opened) == ("NOERROR", ["10.9.0.50"])


def test_a_container_that_asks_without_end_keeps_nobody_else_from_asking(containers, servers):
    """It gets 200 answers a second, whatever addresses it sends from, and its neighbour all that it wants."""
    query, ended, sent = bytes(DNSRecord.question("bob").pack()), threading.Event(), []

    def flood():
        with client(containers[0]) as hostile:
            while not ended.is_set():
                hostile.send(query)
                sent.append(1)

    def count():
        with client(containers[0]) as hostile:
            begin = time.monotonic()
            hostile.settimeout(0.1)
            answered = 0
            while time.monotonic() - begin < 1:
                hostile.send(query)
                try:
                    hostile.recv(512)
                    answered += 1
                except TimeoutError:
                    continue
            return answered

    with closing(Nfnetlink()) as nfnetlink:
        guards = OverlayGuards(nfnetlink)
        guards.ensure(GUARD)
        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            time.sleep(0.5)
            begin = time.monotonic()
            with client(containers[1]) as neighbour:
                for _ in range(50):
                    assert asked(neighbour) == ("NOERROR", ["10.9.0.50"])
            took = time.monotonic() - begin
        finally:
            ended.set()
            flooding.join()
        assert len(sent) > 2000
        assert took < 2
        time.sleep(1.2)
        # All of the second's share and the burst.
        assert 150 <= count() <= 500
        # The set of those who ask changes by itself; the rules are still known for the right ones.
        guards.ensure(GUARD)
        assert [guard.key for guard in guards.owned()] == [GUARD.key]
        guards.remove(GUARD)
    assert "pynet_overlay" not in command("nft", "list", "tables")
