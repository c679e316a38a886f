"""enable_icc=false: neighbours do not reach each other, but what is published."""

import pytest

from integration.lab.circumstances import answering, bridged_frames, outcome
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

ICC = ["-o", "com.docker.network.bridge.enable_icc=false"]
WANTED = {"port": "tcp 10.61.0.10 80", "ping": "ping 10.61.0.10", "port6": "tcp fd61::10 80", "ping6": "ping fd61::10"}


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


HAIRPIN = pytest.mark.xfail(reason="what iptables translates in a bridge stays in it, where the ports are isolated")


@pytest.mark.parametrize("pass_iptables", [pytest.param(True, marks=HAIRPIN), False])
def test_a_published_port_answers_neighbours(host: Host, network: str, pass_iptables: bool) -> None:
    host.idle("ann", "--network", network)
    with bridged_frames(host, pass_iptables=pass_iptables):
        for machine in ("ann", "web"):
            assert outcome(host, f"tcp {host.address} 8080", host.network_of(machine)) == "answered"
            assert outcome(host, f"tcp {host.address6} 8080", host.network_of(machine)) == "answered"


def test_it_holds_in_an_internal_network_too(host: Host) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "--internal", *ICC, "n1")
    host.web("web", "--network", "n1", "--ip", "10.61.0.10")
    host.idle("ann", "--network", "n1")
    assert outcome(host, WANTED["port"], host.network_of("ann")) == "silent"
    assert outcome(host, WANTED["port"]) == "answered"
