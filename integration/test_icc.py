"""enable_icc=false: neighbours do not reach each other, but what is published."""

import sys

import pytest

from integration.lab.circumstances import answering, bridged_frames, outcome
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

ICC = ["-o", "com.docker.network.bridge.enable_icc=false"]
WANTED = {"port": "tcp 10.61.0.10 80", "ping": "ping 10.61.0.10", "port6": "tcp fd61::10 80", "ping6": "ping fd61::10"}

# A datagram in each family to a port at which nobody listens; answers are not waited for.
SENDING = (
    "import socket as s;"
    " [s.socket(f, s.SOCK_DGRAM).sendto(b'', (a, 9))"
    " for f, a in ((s.AF_INET, '10.61.0.10'), (s.AF_INET6, 'fd61::10'))]"
)
SHOUT = (sys.executable, "-IS", "-c", SENDING)


def unwanted_datagrams(host: Host, container: str) -> list[int]:
    """How many datagrams came to the container for which nobody listens, in each family."""
    rows = host.sh(container, "cat /proc/net/snmp /proc/net/snmp6").splitlines()
    names, values = (row.split() for row in rows if row.startswith("Udp:"))
    six = next(row.split()[1] for row in rows if row.startswith("Udp6NoPorts"))
    return [int(values[names.index("NoPorts")]), int(six)]


@pytest.fixture
def network(host: Host) -> str:
    subnets = ["--subnet", "10.61.0.0/24", "--ipv6", "--subnet", "fd61::/64"]
    host.docker("network", "create", "-d", host.drivers.network, *subnets, *ICC, "n1")
    host.web("web", "--network", "n1", "--ip", "10.61.0.10", "--ip6", "fd61::10", "-p", "8080:80")
    return "n1"


@pytest.mark.parametrize("pass_iptables", [True, False])
def test_neighbours_do_not_reach_each_other(host: Host, network: str, pass_iptables: bool) -> None:
    host.idle("ann", "--network", network)
    with bridged_frames(host, pass_iptables=pass_iptables):
        assert answering(host, WANTED, host.network_of("ann")) == set()


def test_the_host_and_the_world_reach_them(host: Host, network: str, outside: WireHost) -> None:
    assert answering(host, WANTED) == set(WANTED)
    assert outside.ask("http", host.address, 8080) == outside.address
    host.once(f"ping -c1 -W3 -w5 10.61.0.1 && ping -c1 -W3 -w5 {outside.address}", "--network", network)


@pytest.mark.parametrize("pass_iptables", [True, False])
def test_a_published_port_answers_neighbours(host: Host, network: str, pass_iptables: bool) -> None:
    host.idle("ann", "--network", network)
    with bridged_frames(host, pass_iptables=pass_iptables):
        for machine in ("ann", "web"):
            assert outcome(host, f"tcp {host.address} 8080", host.network_of(machine)) == "answered"
            assert outcome(host, f"tcp {host.address6} 8080", host.network_of(machine)) == "answered"


@pytest.mark.parametrize("pass_iptables", [True, False])
def test_the_gateway_is_no_way_round(host: Host, network: str, pass_iptables: bool) -> None:
    host.idle("ann", "--network", network)
    inside = host.network_of("ann")
    for target, gateway in (("10.61.0.10", "10.61.0.1"), ("fd61::10", "fd61::1")):
        host.run(*inside, "ip", "route", "add", target, "via", gateway)
    before = unwanted_datagrams(host, "web")
    with bridged_frames(host, pass_iptables=pass_iptables):
        host.run(*inside, *SHOUT)
        assert unwanted_datagrams(host, "web") == before
    host.run(*SHOUT)
    assert unwanted_datagrams(host, "web") == [count + 1 for count in before], "they would have been counted"


def test_it_holds_in_an_internal_network_too(host: Host) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "--internal", *ICC, "n1")
    host.web("web", "--network", "n1", "--ip", "10.61.0.10")
    host.idle("ann", "--network", "n1")
    assert outcome(host, WANTED["port"], host.network_of("ann")) == "silent"
    assert outcome(host, WANTED["port"]) == "answered"
