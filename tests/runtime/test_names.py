"""Names that containers find on 127.0.0.11 in their own namespace, and what else is asked outside."""

import socket
import struct
import threading

import pytest
from dnslib import QTYPE, RCODE, RR, A, DNSRecord

from runtime import sandbox
from runtime.networks.dns import receive
from runtime.networks.networks import Networks

NETWORK = {"Name": "blue", "Driver": "pynet", "EnableIPv6": True,
           "IPAM": {"Config": [{"Subnet": "10.9.0.0/24"}, {"Subnet": "fd09::/64"}]}}  # fmt: skip


def ask(bare, name, kind="A", tcp=False):
    """Return code and data of the answer that the container gets."""
    query = bytes(DNSRecord.question(name, kind).pack())

    def converse():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            client.connect(("127.0.0.11", 53))
            client.sendall((struct.pack("!H", len(query)) if tcp else b"") + query)
            return receive(client) if tcp else client.recv(65535)

    answer = DNSRecord.parse(sandbox.inside(bare.netns, converse))
    return RCODE[answer.header.rcode], [str(record.rdata) for record in answer.rr]


@pytest.fixture
def outside(netns):
    """A name server that knows one name, on the host's 127.0.0.1, by UDP and TCP."""
    sockets = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.bind(("127.0.0.1", 53))
    udp, tcp = sockets
    tcp.listen()

    def answer(query):
        question = DNSRecord.parse(query)
        reply = question.reply()
        reply.add_answer(RR(question.q.qname, QTYPE.A, rdata=A("192.0.2.7")))
        return reply.pack()

    def serve_udp():
        while True:
            query, sender = udp.recvfrom(65535)
            udp.sendto(answer(query), sender)

    def serve_tcp():
        while True:
            connection, _ = tcp.accept()
            with connection:
                reply = answer(receive(connection))
                connection.sendall(struct.pack("!H", len(reply)) + reply)

    def quietly(serve):
        try:
            serve()
        except OSError:
            return

    threads = [threading.Thread(target=quietly, args=(serve,), daemon=True) for serve in (serve_udp, serve_tcp)]
    for thread in threads:
        thread.start()
    yield
    for each in sockets:
        each.shutdown(socket.SHUT_RDWR) if each is tcp else None
        each.close()


@pytest.mark.parametrize("tcp", [False, True])
def test_names_and_addresses_of_neighbours(networks, containers, tcp):
    one, two, three = containers
    networks.create(NETWORK)
    networks.create({"Name": "green", "Driver": "pynet"})
    found = networks.attach_all(one.target, {"blue": {"Aliases": ["db", "Shared"]}}, {})["blue"]
    second = networks.attach_all(two.target, {"blue": {"Aliases": ["shared"]}, "green": {}}, {})["blue"]
    networks.attach_all(three.target, {"green": {}}, {})
    for name in ("c1", "C1", "db", "c1.blue", "db.blue", one.id[:12]):
        assert ask(two, name, tcp=tcp) == ("NOERROR", [found["IPAddress"]])
    assert ask(two, "c1", "AAAA", tcp=tcp) == ("NOERROR", [found["GlobalIPv6Address"]])
    assert ask(two, "c1", "MX", tcp=tcp) == ("NOERROR", [])
    assert sorted(ask(two, "shared", tcp=tcp)[1]) == sorted([found["IPAddress"], second["IPAddress"]])
    reverse = ".".join(reversed(found["IPAddress"].split("."))) + ".in-addr.arpa"
    assert ask(two, reverse, "PTR", tcp=tcp) == ("NOERROR", ["c1.blue."])
    networks.detach_all(one.id)
    assert ask(two, "shared", tcp=tcp) == ("NOERROR", [second["IPAddress"]])


def test_other_names_are_asked_outside_by_those_who_may_go_there(networks, containers, outside):
    one, two, three = containers
    networks.create(NETWORK)
    networks.create({"Name": "closed", "Driver": "pynet", "Internal": True})
    asking = {"dns": ("127.0.0.1",)}
    networks.attach_all(type(one.target)(**{**vars(one.target), **asking}), {"blue": {}}, {})
    networks.attach_all(type(two.target)(**{**vars(two.target), **asking}), {"closed": {}}, {})
    silent = type(three.target)(**{**vars(three.target), "dns": ("127.0.0.99",)})
    networks.attach_all(silent, {"blue": {}}, {})
    for tcp in (False, True):
        assert ask(one, "example.org", tcp=tcp) == ("NOERROR", ["192.0.2.7"])
        assert ask(two, "example.org", tcp=tcp) == ("SERVFAIL", [])
        assert ask(three, "example.org", tcp=tcp) == ("SERVFAIL", [])
        assert ask(three, "c1", tcp=tcp)[0] == "NOERROR"


def test_nonsense_is_answered_and_others_still_served(networks, containers):
    one = containers[0]
    networks.create(NETWORK)
    networks.attach_all(one.target, {"blue": {}}, {})

    def babble():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            client.connect(("127.0.0.11", 53))
            client.send(b"")
            client.send(b"\x12\x34nonsense")
            return client.recv(65535)[:2], client.recv(65535)[:2]

    assert sandbox.inside(one.netns, babble) == (b"\0\0", b"\x12\x34")
    assert ask(one, "c1")[0] == "NOERROR"


def test_a_new_daemon_answers_instead_of_the_dead_one(networks, containers, state, plugins):
    one = containers[0]
    networks.create(NETWORK)
    networks.attach_all(one.target, {"blue": {"Aliases": ["db"]}}, {})
    networks.close()  # what the kernel does with the sockets of a dead process
    after = Networks(state, plugins)
    after.recover([one.id])
    assert ask(one, "db") == ("NOERROR", [after.settings(one.id)["blue"]["IPAddress"]])
    after.close()


def test_port_53_is_free_for_a_server_of_its_own_also_with_the_next_daemon(networks, containers, state, plugins):
    one = containers[0]
    networks.create(NETWORK)
    networks.attach_all(one.target, {"blue": {"Aliases": ["db"]}}, {})

    def listen():
        opened = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
        for each in opened:
            each.bind(("0.0.0.0", 53))
        opened[1].listen()
        return opened

    def ask_own(opened):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"mine", ("127.0.0.1", 53))
        opened[0].settimeout(10)
        return opened[0].recv(65535)

    own = sandbox.inside(one.netns, listen)
    after = Networks(state, plugins)
    try:
        assert sandbox.inside(one.netns, lambda: ask_own(own)) == b"mine"
        for tcp in (False, True):
            assert ask(one, "db", tcp=tcp)[0] == "NOERROR"
        networks.close()  # what the kernel does with the sockets of a dead process
        after.recover([one.id])
        for tcp in (False, True):
            assert ask(one, "db", tcp=tcp)[0] == "NOERROR"
        assert one.run("nft", "list", "ruleset").count("dnat to") == 2
    finally:
        after.close()
        for each in own:
            each.close()


def test_a_client_that_keeps_its_socket_is_answered_by_the_next_daemon(networks, containers, state, plugins):
    one = containers[0]
    networks.create(NETWORK)
    networks.attach_all(one.target, {"blue": {"Aliases": ["db"]}}, {})
    query = bytes(DNSRecord.question("db").pack())

    def connect():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(10)
        client.connect(("127.0.0.11", 53))
        return client

    with sandbox.inside(one.netns, connect) as client:
        client.send(query)
        assert DNSRecord.parse(client.recv(65535)).rr
        networks.close()
        after = Networks(state, plugins)
        after.recover([one.id])
        client.send(query)
        assert DNSRecord.parse(client.recv(65535)).rr
        after.close()


def test_a_container_with_another_name_is_found_by_that_alone(networks, containers):
    one, two = containers[:2]
    networks.create(NETWORK)
    for each in (one, two):
        networks.attach_all(each.target, {"blue": {"Aliases": ["db"]}}, {})
    networks.rename(one.id, "other")
    networks.rename("nobody", "at-all")
    address = networks.settings(one.id)["blue"]["IPAddress"]
    assert ask(two, "other") == ask(two, "other.blue") == ("NOERROR", [address])
    assert ask(two, one.target.name)[1] == []
    assert networks.settings(one.id)["blue"]["DNSNames"][:2] == ["other", "db"]
    assert networks.inspect("blue")["Containers"][one.id]["Name"] == "other"


def test_the_container_s_files(networks, containers):
    one = containers[0]
    networks.create(NETWORK)
    networks.create({"Name": "green", "Driver": "pynet"})
    wanted = {"dns_search": ("lab", "example"), "dns_options": ("timeout:3",), "hostname": "web",
              "extra_hosts": ("gate:host-gateway", "six:[fd00::9]")}  # fmt: skip
    target = type(one.target)(**{**vars(one.target), **wanted})
    hosts, resolv = one.files / "hosts", one.files / "resolv.conf"
    settings = networks.attach_all(target, {"blue": {}}, {})["blue"]
    inode = hosts.stat().st_ino
    assert resolv.read_text() == "nameserver 127.0.0.11\nsearch lab example\noptions timeout:3 ndots:0\n"
    lines = hosts.read_text().splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-4:] == ["10.9.0.1\tgate", "fd00::9\tsix", f"{settings['IPAddress']}\tweb",
                          f"{settings['GlobalIPv6Address']}\tweb"]  # fmt: skip
    networks.connect("green", target, {}, {})
    networks.disconnect("blue", one.id)
    assert settings["IPAddress"] not in hosts.read_text()
    assert hosts.stat().st_ino == inode
