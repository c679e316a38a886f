"""What Docker's own suite of remote network drivers asks, asked of ours: names, what inspect shows, a lost plugin."""

import json

import pytest

from integration.lab.deadline import wait_for
from integration.lab.host import Host

PYNET_POOL = ("--subnet", "10.61.0.0/24")


def inspected(host: Host, network: str) -> dict[str, object]:
    [network_json] = json.loads(host.docker("network", "inspect", network))
    assert isinstance(network_json, dict)
    return network_json


@pytest.mark.parametrize("name", ["test@#$", "test1@#$", "a b", "ä"])
def test_names_with_special_characters(host: Host, name: str) -> None:
    host.docker("network", "create", "-d", host.drivers.network, *PYNET_POOL, name)
    host.once("ping -c1 -W3 10.61.0.1", "--network", name)
    host.docker("network", "rm", name)
    assert name not in host.docker("network", "ls", "--format", "{{.Name}}").splitlines()


def test_options_are_shown(host: Host) -> None:
    options = ("-o", "com.docker.network.driver.mtu=1400", "-o", "com.docker.network.bridge.enable_icc=false")
    host.docker("network", "create", "-d", host.drivers.network, *PYNET_POOL, *options, "n1")
    told = inspected(host, "n1")
    assert told["Driver"] == host.drivers.network
    assert told["Options"] == {"com.docker.network.driver.mtu": "1400", "com.docker.network.bridge.enable_icc": "false"}


def test_without_addresses(host: Host) -> None:
    """`--ipam-driver null` makes all of IPv4 the subnet, which is told to be none, and nothing is left of it."""
    said = host.docker_error("network", "create", "-d", host.drivers.network, "--ipam-driver", "null", "n1")
    assert "0.0.0.0/0 is no subnet; give one with --subnet" in said
    assert "n1" not in host.docker("network", "ls", "--format", "{{.Name}}").split()


def test_the_mac_address_is_the_drivers(host: Host) -> None:
    host.docker("network", "create", "-d", host.drivers.network, *PYNET_POOL, "n1")
    host.idle("ann", "--network", "n1")
    told = host.facts("ann", '(index .NetworkSettings.Networks "n1").MacAddress')
    assert told == host.sh("ann", "cat /sys/class/net/eth0/address").strip()
    assert len(told) == 17


def test_a_connection_that_fails_is_no_obstacle(host: Host) -> None:
    host.docker("network", "create", "-d", host.drivers.network, *PYNET_POOL, "n1")
    host.idle("ann", "--network", "none")
    assert "private (none) mode" in host.docker_error("network", "connect", "n1", "ann")
    host.docker("network", "disconnect", "none", "ann")
    host.docker_error("network", "connect", "--ip", "10.99.0.9", "n1", "ann")
    assert host.sh("ann", "ls /sys/class/net").split() == ["lo"]
    host.docker("network", "connect", "--ip", "10.61.0.9", "n1", "ann")
    host.sh("ann", "ping -c1 -W3 10.61.0.1")


@pytest.mark.parametrize("options", [("--ip", "10.61.0.20"), ("--ip6", "fd61::20")], ids=["IPv4", "IPv6"])
def test_a_wanted_address_is_kept_by_a_restart_of_the_container(host: Host, options: tuple[str, str]) -> None:
    subnets = (*PYNET_POOL, "--ipv6", "--subnet", "fd61::/64")
    host.docker("network", "create", "-d", host.drivers.network, *subnets, "n1")
    host.idle("ann", "--network", "n1", *options, "--stop-timeout", "0")
    host.docker("restart", "ann")
    assert f" {options[1]}/" in host.sh("ann", "ip address show dev eth0")


def test_the_engine_starts_without_the_plugin(host: Host) -> None:
    """It was killed with its plugin, and starts before it: the address of what died with it is free again."""
    host.docker("network", "create", "-d", host.drivers.network, *PYNET_POOL, "n1")
    host.idle("ann", "--network", "n1", "--ip", "10.61.0.10")
    host.crash()
    host.engine.start(timeout_s=60, attempts=3)
    wait_for("ann is known to be dead", lambda: host.facts("ann", ".State.Running") == "false", 30)
    host.ensure_running()
    host.idle("bob", "--network", "n1", "--ip", "10.61.0.10")
    host.sh("bob", "ping -c1 -W3 10.61.0.1")
