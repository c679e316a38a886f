"""A network with addresses of both families."""

import json

import pytest

from integration.lab.host import Host
from integration.lab.wirehost import WireHost

SUBNET6 = "fd61::/64"
PING6 = "ping6 -c1 -W3 -w5"


@pytest.fixture
def network(host: Host) -> str:
    subnets = ["--subnet", "10.61.0.0/24", "--ipv6", "--subnet", SUBNET6]
    host.docker("network", "create", "-d", host.drivers.network, *subnets, "n1")
    return "n1"


def test_containers_ping_each_other_over_both_families(host: Host, network: str) -> None:
    host.idle("ann", "--network", network)
    host.idle("bob", "--network", network)
    address = host.facts("bob", f'(index .NetworkSettings.Networks "{network}").GlobalIPv6Address')
    host.sh("ann", f"{PING6} {address}")
    host.sh("ann", f"{PING6} bob")
    host.sh("ann", "ping -c1 -W3 bob")


def test_inspect_says_what_the_container_has(host: Host, network: str) -> None:
    host.idle("ann", "--network", network)
    settings = json.loads(host.facts("ann", f'json (index .NetworkSettings.Networks "{network}")'))
    assert settings["GlobalIPv6Address"].startswith("fd61::")
    assert f"inet6 {settings['GlobalIPv6Address']}/64 " in host.sh("ann", "ip -6 addr show dev eth0")
    assert settings["IPv6Gateway"] == "fd61::1"
    assert "default via fd61::1 dev eth0" in host.sh("ann", "ip -6 route")
    host.sh("ann", f"{PING6} fd61::1")


def test_another_host_on_the_wire_sees_the_hosts_address(host: Host, network: str, outside: WireHost) -> None:
    with outside.answering("tcp", 9000):
        host.idle("ann", "--network", network)
        assert host.ask("tcp", outside.address6, 9000, entering=host.network_of("ann")) == host.address6


@pytest.mark.everywhere
def test_a_published_port_answers_on_the_hosts_ipv6_address(host: Host, network: str, outside: WireHost) -> None:
    host.web("ann", "--network", network, "-p", "8080:80")
    assert outside.ask("http", host.address6, 8080) == outside.address6
    assert outside.ask("http", host.address, 8080) == outside.address
    assert host.ask("http", host.address6, 8080, "/") == "lab"


def test_an_internal_network_has_no_way_out(host: Host, outside: WireHost) -> None:
    subnets = ["--subnet", "10.61.0.0/24", "--ipv6", "--subnet", SUBNET6]
    host.docker("network", "create", "-d", host.drivers.network, "--internal", *subnets, "n1")
    host.idle("ann", "--network", "n1")
    host.idle("bob", "--network", "n1")
    host.sh("ann", f"{PING6} bob")
    assert "default" not in host.sh("ann", "ip -6 route")
    host.sh("ann", f"! {PING6} {outside.address6}")
