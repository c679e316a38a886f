"""Host ports, held by real sockets on loopback of a scratch namespace."""

import resource
import socket
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest

from netplugin.kernel.ports.held import PortHolder, allow_many
from netplugin.resources import HostPorts
from netplugin.values import parse_port_range
from pluginkit.errors import BadRequest, Conflict
from tests.network.samples import ANY4, ANY6

pytestmark = pytest.mark.usefixtures("netns")

LOOPBACK = IPv4Address("127.0.0.1")
WANT = HostPorts("tcp", ANY4, 8080, "owner-one")


@pytest.fixture
def ports():
    ports = PortHolder()
    yield ports
    for have in ports.owned():
        ports.remove(have)


def can_bind(address, port, kind=socket.SOCK_STREAM):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            if kind == socket.SOCK_STREAM:
                probe.listen()
        except OSError:
            return False
        return True


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "::", "::1"])
def test_nobody_else_can_open_a_held_port(ports, protocol, address):
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    want = HostPorts(protocol, ip_address(address), 8080, "owner")
    ports.ensure(want)
    ports.ensure(want)
    loopback = "::1" if ":" in address else "127.0.0.1"
    assert not can_bind(loopback, 8080, kind)
    ports.remove(want)
    ports.remove(want)
    assert can_bind(loopback, 8080, kind)


def test_a_held_port_answers_nobody(ports):
    ports.ensure(WANT)
    with socket.socket() as client:
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.connect(("127.0.0.1", 8080))


def test_both_families_and_both_protocols_are_different_ports(ports):
    for protocol in ("tcp", "udp"):
        for address in (ANY4, ANY6):
            ports.ensure(HostPorts(protocol, address, 8080, "owner"))
    assert len(list(ports.owned())) == 4


@pytest.mark.parametrize(("first", "second"), [(ANY4, ANY4), (ANY4, LOOPBACK), (LOOPBACK, ANY4), (LOOPBACK, LOOPBACK)])
def test_a_port_of_another_endpoint_names_it(ports, first, second):
    ports.ensure(replace(WANT, address=first))
    with pytest.raises(
        Conflict, match=r"cannot publish port 8080/tcp on .*already allocated, to endpoint owner-one"
    ) as hit:
        ports.ensure(HostPorts("tcp", second, 8080, "owner-two"))
    assert hit.value.holder == "owner-one"
    ports.remove(HostPorts("tcp", second, 8080, "owner-two"))
    assert [have.owner for have in ports.owned()] == ["owner-one"]


def test_different_addresses_are_different_ports(ports):
    ports.ensure(replace(WANT, address=LOOPBACK))
    ports.ensure(HostPorts("tcp", IPv4Address("127.0.0.2"), 8080, "owner-two"))


@pytest.mark.parametrize(("protocol", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)])
def test_a_port_of_a_process_names_it(ports, protocol, kind):
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 8080))
        if protocol == "tcp":
            other.listen()
        with pytest.raises(Conflict, match=r"port is already allocated, to \S+ \(pid \d+\)") as hit:
            ports.ensure(replace(WANT, protocol=protocol))
    assert hit.value.holder == ""
    ports.ensure(replace(WANT, protocol=protocol))


def test_an_address_that_the_host_lacks_is_refused(ports):
    with pytest.raises(Conflict, match="the host has no such address"):
        ports.ensure(replace(WANT, address=IPv4Address("10.1.2.3")))


def test_a_connection_that_ended_a_moment_ago_does_not_keep_the_port(ports):
    with socket.create_server(("127.0.0.1", 8080)) as server:
        with socket.create_connection(("127.0.0.1", 8080)) as client:
            accepted, _ = server.accept()
            accepted.close()  # the server's side closes first and keeps the port in TIME_WAIT
            client.recv(1)
    ports.ensure(WANT)


def test_a_free_port_is_free_and_stays_so(ports):
    assert ports.is_free("tcp", [ANY4, ANY6], 8080)
    assert can_bind("127.0.0.1", 8080)
    ports.ensure(WANT)
    assert not ports.is_free("tcp", [LOOPBACK], 8080)
    assert ports.is_free("udp", [LOOPBACK], 8080)


def test_a_protocol_that_the_kernel_lacks_needs_no_holding(ports):
    # Where the kernel has SCTP the port is bound, where it has not nobody can bind it: it is held either way.
    want = HostPorts("sctp", LOOPBACK, 8080, "owner")
    ports.ensure(want)
    assert list(ports.owned()) == [want]


def test_the_ephemeral_range_is_the_kernels(ports):
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40009")
    assert ports.ephemeral_range() == range(40000, 40010)


RUN = HostPorts("tcp", ANY4, 20000, "owner-one", 10000)


def reserved_setting():
    return Path("/proc/sys/net/ipv4/ip_local_reserved_ports").read_text().strip()


def test_a_long_run_is_kept_from_those_who_ask_for_any_port_and_needs_no_sockets(ports):
    Path("/proc/sys/net/ipv4/ip_local_reserved_ports").write_text("8000-8010,20000")
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    ports.ensure(RUN)
    ports.ensure(RUN)
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert reserved_setting() == "8000-8010,20000-29999"
    ports.remove(RUN)
    assert reserved_setting() == "8000-8010"


def test_a_long_run_with_a_port_in_use_names_who_uses_it(ports):
    with socket.create_server(("127.0.0.1", 25000)):
        with pytest.raises(Conflict, match=r"cannot publish port 20000-29999/tcp on 0.0.0.0: .*, to \S+ \(pid \d+\)"):
            ports.ensure(RUN)
    assert reserved_setting() == ""
    ports.ensure(RUN)


@pytest.mark.parametrize(
    "want", [replace(RUN, owner="owner-two", port=29999, count=2), HostPorts("tcp", LOOPBACK, 25000, "owner-two")]
)
def test_a_port_of_a_long_run_is_taken(ports, want):
    ports.ensure(RUN)
    with pytest.raises(Conflict, match="to endpoint owner-one"):
        ports.ensure(want)
    assert not ports.is_free("tcp", [ANY4], 25000)
    assert ports.is_free("udp", [ANY4], 25000)


def test_a_short_run_is_held_port_by_port_or_not_at_all(ports):
    run = replace(RUN, count=5)
    with socket.create_server(("127.0.0.1", 20004)), pytest.raises(Conflict, match="port 20004/tcp"):
        ports.ensure(run)
    assert can_bind("127.0.0.1", 20000)
    ports.ensure(run)
    assert not any(can_bind("127.0.0.1", port) for port in range(20000, 20005))


@pytest.mark.parametrize(
    "before", [HostPorts("tcp", ANY4, 9000, "owner-one", 3), HostPorts("tcp", LOOPBACK, 9001, "owner-one"), RUN]
)
def test_a_run_replaces_the_former_one_of_its_owner(ports, before):
    ports.ensure(before)
    want = replace(before, address=ANY4, count=2)
    ports.ensure(want)
    ports.remove(before)
    assert list(ports.owned()) == [want]
    assert not can_bind("127.0.0.1", want.port)


def test_more_ports_can_be_held_than_there_usually_are_descriptors(ports):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        allow_many()
        for number in range(300):
            ports.ensure(replace(WANT, port=20000 + 2 * number))
    finally:
        for have in ports.owned():
            ports.remove(have)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("count", [10, 100])
def test_a_port_in_the_middle_of_anothers_run_is_taken_whichever_came_first(ports, count):
    run, single = replace(WANT, port=8000, count=count), replace(WANT, port=8005, owner="owner-two")
    for first, second in ((run, single), (single, run)):
        ports.ensure(first)
        with pytest.raises(Conflict, match="already allocated"):
            ports.ensure(second)
        ports.remove(first)


@pytest.mark.parametrize(("protocol", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)])
@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
@pytest.mark.parametrize("port", [8000, 8099])
def test_a_long_run_is_refused_if_a_process_has_its_first_or_last_port(ports, protocol, kind, family, address, port):
    run = replace(WANT, protocol=protocol, port=8000, count=100)
    with socket.socket(family, kind) as other:
        other.bind((address, port))
        if protocol == "tcp":
            other.listen()
        with pytest.raises(Conflict, match=r"cannot publish port 8000-8099/.* to \S+ \(pid \d+\)"):
            ports.ensure(run)
    ports.ensure(run)


def test_ports_beside_a_long_run_and_ends_of_connections_in_it_are_nobodys(ports):
    with socket.create_server(("127.0.0.1", 7999)) as server, socket.create_server(("127.0.0.1", 8100)):
        with socket.create_connection(("127.0.0.1", 7999), source_address=("127.0.0.1", 8050)):
            accepted, _ = server.accept()
            with accepted:
                ports.ensure(replace(WANT, port=8000, count=100))


def test_the_next_process_gives_back_what_a_killed_one_reserved(ports):
    run = replace(WANT, port=30000, count=100)
    ports.ensure(run)
    PortHolder().remove(run)
    assert Path("/proc/sys/net/ipv4/ip_local_reserved_ports").read_text().strip() == ""


def test_a_reservation_stays_while_another_protocol_needs_it(ports):
    tcp, udp = replace(WANT, port=30000, count=100), replace(WANT, protocol="udp", port=30050, count=100, owner="two")
    ports.ensure(tcp)
    ports.ensure(udp)
    ports.remove(tcp)
    assert Path("/proc/sys/net/ipv4/ip_local_reserved_ports").read_text().strip() == "30050-30149"


def test_another_ephemeral_range_can_be_configured():
    assert PortHolder(range(7000, 7010)).ephemeral_range() == range(7000, 7010)


@pytest.mark.parametrize("text", ["", "80", "80-", "-80", "90-80", "0-80", "80-70000", "a-b", "1-2-3"])
def test_a_range_that_is_none_is_refused(text):
    with pytest.raises(BadRequest, match="write FIRST-LAST"):
        parse_port_range(text)


def test_a_range_has_both_its_ends():
    assert parse_port_range("49153-60999") == range(49153, 61000)
