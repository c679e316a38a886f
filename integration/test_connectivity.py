"""Containers reach each other, their host and the world; nobody gets more than was asked for."""

import json

import pytest

from integration.lab.host import Host
from integration.lab.wirehost import WireHost

SUBNET = "10.61.0.0/24"
PING = "ping -c1 -W3 -w5"


@pytest.fixture
def network(host: Host) -> str:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", SUBNET, "n1")
    return "n1"


@pytest.mark.everywhere
def test_two_containers_ping_each_other_by_address_and_by_name(host: Host, network: str) -> None:
    host.idle("ann", "--network", network)
    host.idle("bob", "--network", network)
    host.sh("ann", f"{PING} {host.address_of('bob', network)}")
    host.sh("ann", f"{PING} bob")
    host.sh("bob", f"{PING} ann")


def test_a_network_without_a_subnet_gets_one(host: Host) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "n1")
    host.idle("ann", "--network", "n1")
    assert host.address_of("ann", "n1").startswith("10.201.")
    host.once(f"{PING} ann", "--network", "n1")


@pytest.mark.everywhere
def test_another_host_on_the_wire_sees_the_hosts_address(host: Host, network: str, outside: WireHost) -> None:
    with outside.answering("tcp", 9000), outside.answering("udp", 9001):
        host.idle("ann", "--network", network)
        inside = host.network_of("ann")
        assert host.ask("tcp", outside.address, 9000, entering=inside) == host.address
        assert host.ask("udp", outside.address, 9001, entering=inside) == host.address
        host.sh("ann", f"{PING} {outside.address}")


@pytest.mark.parametrize("policy", ["ACCEPT", "DROP"])
def test_the_world_is_reached_under_either_forward_policy(host: Host, outside: WireHost, policy: str) -> None:
    was = next(line for line in host.run("iptables", "-S", "FORWARD").splitlines() if line.startswith("-P")).split()[-1]
    host.run("iptables", "-P", "FORWARD", policy)
    try:
        host.docker("network", "create", "-d", host.drivers.network, "--subnet", SUBNET, "n1")
        host.idle("ann", "--network", "n1")
        host.web("bob", "--network", "n1", "-p", "8080:80")
        host.sh("ann", f"{PING} {outside.address}")
        host.sh("ann", f"{PING} bob")
        assert outside.ask("http", host.address, 8080) == outside.address
    finally:
        host.run("iptables", "-P", "FORWARD", was)


def test_host_and_container_reach_each_other(host: Host, network: str) -> None:
    host.web("ann", "--network", network)
    assert host.ask("http", host.address_of("ann", network), 80) == "10.61.0.1"
    host.sh("ann", f"{PING} 10.61.0.1")
    host.sh("ann", f"{PING} {host.address}")


@pytest.mark.everywhere
def test_no_gateway_bridge_of_the_engine_appears(host: Host, network: str) -> None:
    host.idle("ann", "--network", network)
    assert "docker_gwbridge" not in host.docker("network", "ls")
    assert "docker_gwbridge" not in host.run("ip", "link")
    assert host.sh("ann", "ls /sys/class/net").split() == ["eth0", "lo"]


@pytest.mark.everywhere
def test_inspect_says_what_the_container_has(host: Host, network: str) -> None:
    host.idle("ann", "--network", network)
    settings = json.loads(host.facts("ann", f'json (index .NetworkSettings.Networks "{network}")'))
    assert f"inet {settings['IPAddress']}/24 " in host.sh("ann", "ip -4 addr show dev eth0")
    assert settings["MacAddress"] == host.sh("ann", "cat /sys/class/net/eth0/address")
    assert settings["Gateway"] == "10.61.0.1"
    assert "default via 10.61.0.1 dev eth0" in host.sh("ann", "ip route")

    described = json.loads(host.docker("network", "inspect", network))[0]
    assert described["Driver"] == host.drivers.network
    assert described["IPAM"]["Config"][0]["Subnet"] == SUBNET
    (member,) = described["Containers"].values()
    assert (member["IPv4Address"], member["MacAddress"]) == (f"{settings['IPAddress']}/24", settings["MacAddress"])


def test_wanted_addresses_are_given(host: Host, network: str) -> None:
    host.idle("ann", "--network", network, "--ip", "10.61.0.77", "--mac-address", "02:42:0a:3d:00:4d")
    assert "inet 10.61.0.77/24 " in host.sh("ann", "ip -4 addr show dev eth0")
    assert host.sh("ann", "cat /sys/class/net/eth0/address") == "02:42:0a:3d:00:4d"
    assert host.address_of("ann", network) == "10.61.0.77"


def test_a_gateway_of_ones_own_choice(host: Host) -> None:
    wanted = ["--subnet", "10.62.0.0/24", "--gateway", "10.62.0.254"]
    host.docker("network", "create", "-d", host.drivers.network, *wanted, "n2")
    host.idle("ann", "--network", "n2")
    assert "default via 10.62.0.254 dev eth0" in host.sh("ann", "ip route")
    host.sh("ann", f"{PING} 10.62.0.254")


def test_the_mtu_is_the_one_asked_for(host: Host) -> None:
    mtu = ["-o", "com.docker.network.driver.mtu=1400"]
    host.docker("network", "create", "-d", host.drivers.network, *mtu, "n1")
    host.idle("ann", "--network", "n1")
    assert host.sh("ann", "cat /sys/class/net/eth0/mtu") == "1400"
    host.once(f"{PING} -s 1372 ann", "--network", "n1")


def test_an_unknown_option_is_refused_by_name(host: Host) -> None:
    assert "colour" in host.docker_error("network", "create", "-d", host.drivers.network, "-o", "colour=red", "n1")
    assert host.docker("network", "ls", "-q", "--filter", "type=custom") == ""


def test_an_internal_network_has_no_way_out(host: Host, outside: WireHost) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--internal", "--subnet", SUBNET, "n1")
    host.web("ann", "--network", "n1")
    host.idle("bob", "--network", "n1")
    host.sh("bob", f"{PING} ann")
    assert host.sh("bob", "wget -qO- http://ann/") == "lab"
    assert "default" not in host.sh("bob", "ip route")
    # Not even with a route of its own: the host does not forward for it.
    host.sh("bob", f"! {PING} {outside.address}")
    with outside.answering("tcp", 9000):
        inside = host.network_of("bob")
        host.run(*inside, "ip", "route", "add", "default", "via", "10.61.0.1")
        with pytest.raises(AssertionError, match="9000"):
            host.ask("tcp", outside.address, 9000, entering=inside)


@pytest.mark.everywhere
def test_two_networks_do_not_see_each_other(host: Host, network: str) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.62.0.0/24", "n2")
    host.web("ann", "--network", network)
    host.idle("bob", "--network", "n2")
    target = host.address_of("ann", network)
    host.sh("bob", f"! ping -c1 -W1 -w2 {target}")
    with pytest.raises(AssertionError, match=target):
        host.ask("http", target, 80, entering=host.network_of("bob"))
