"""pynet's IPAM driver gives pools and addresses, to its own networks and to those of the engine's drivers."""

import json
from ipaddress import ip_address, ip_network
from itertools import combinations

import pytest

from integration.lab.host import Host


def ours(host: Host, driver: str = "") -> tuple[str, ...]:
    """The options for a network with our IPAM driver, and our network driver or another one."""
    return "-d", driver or host.drivers.network, "--ipam-driver", host.drivers.network


@pytest.fixture(autouse=True)
def _only_with_pynet(host: Host) -> None:
    if "pynet" not in host.plugins:
        pytest.skip("the harness is tried without pynet")


def create(host: Host, name: str, *options: str, driver: str = "") -> dict[str, str]:
    """The network exists; its first subnet and the gateway of it are returned as the engine describes them."""
    host.docker("network", "create", *ours(host, driver), *options, name)
    described: dict[str, str] = json.loads(host.docker("network", "inspect", name))[0]["IPAM"]["Config"][0]
    return described


@pytest.mark.everywhere
def test_a_network_gets_a_subnet_and_a_container_an_address(host: Host) -> None:
    config = create(host, "n1")
    subnet = ip_network(config["Subnet"])
    assert subnet.prefixlen == 24
    assert config["Gateway"].partition("/")[0] == str(subnet[1])
    host.idle("ann", "--network", "n1")
    assert host.address_of("ann", "n1") == str(subnet[2])
    host.once("ping -c1 -W3 ann", "--network", "n1")


def test_networks_never_overlap(host: Host) -> None:
    host.run("ip", "route", "add", "blackhole", "10.200.2.0/23")
    try:
        drivers = ("", "bridge", "", "bridge")
        subnets = [ip_network(create(host, f"n{n}", driver=driver)["Subnet"]) for n, driver in enumerate(drivers)]
        subnets += [ip_network("10.200.2.0/23"), ip_network("10.200.0.0/24")]  # the latter is docker0's in this lab
        assert not [pair for pair in combinations(subnets, 2) if pair[0].overlaps(pair[1])]
    finally:
        host.run("ip", "route", "del", "blackhole", "10.200.2.0/23")


def test_what_was_asked_for_is_given(host: Host) -> None:
    wanted = ("--subnet", "10.61.0.0/24", "--gateway", "10.61.0.254", "--ip-range", "10.61.0.64/30")
    config = create(host, "n1", *wanted, "--aux-address", "router=10.61.0.5", "--aux-address", "nas=10.61.0.65")
    assert config["Subnet"] == "10.61.0.0/24"
    assert config["Gateway"] == "10.61.0.254"
    for name in ("ann", "bob", "cat"):
        host.idle(name, "--network", "n1")
    assert {host.address_of(name, "n1") for name in ("ann", "bob", "cat")} == {
        f"10.61.0.{last}" for last in (64, 66, 67)
    }
    assert "no available IPv4 addresses" in host.docker_error("run", "--rm", "--network", "n1", "lab", "true")
    host.idle("dan", "--network", "n1", "--ip", "10.61.0.100")
    assert host.address_of("dan", "n1") == "10.61.0.100"
    refused = host.docker_error("run", "--rm", "--network", "n1", "--ip", "10.61.0.5", "lab", "true")
    assert "cannot give 10.61.0.5: Address already in use" in refused


def test_a_subnet_is_given_once(host: Host) -> None:
    create(host, "n1", "--subnet", "10.61.0.0/24")
    for subnet in ("10.61.0.0/24", "10.61.0.0/16"):
        text = host.docker_error("network", "create", *ours(host), "--subnet", subnet, "n2")
        assert "Pool overlaps with 10.61.0.0/24" in text
    host.docker("network", "rm", "n1")
    create(host, "n2", "--subnet", "10.61.0.0/16")


def test_a_removed_network_gives_back_pool_and_addresses(host: Host) -> None:
    for _ in range(2):
        create(host, "n1", "--subnet", "10.61.0.0/30")
        host.idle("ann", "--network", "n1")
        assert host.address_of("ann", "n1") == "10.61.0.2"
        host.docker("rm", "-f", "ann")
        host.docker("network", "rm", "n1")


def test_a_freed_address_is_not_used_again_at_once(host: Host) -> None:
    create(host, "n1", "--subnet", "10.61.0.0/24")
    given = []
    for _ in range(3):
        host.idle("ann", "--network", "n1")
        given.append(host.address_of("ann", "n1"))
        host.docker("rm", "-f", "ann")
    # An engine that tells us the name asks for the address that the name had.
    assert given in ([f"10.61.0.{last}" for last in (2, 3, 4)], ["10.61.0.2"] * 3)


def test_both_families(host: Host) -> None:
    host.docker("network", "create", *ours(host), "--ipv6", "n1")
    subnets = [config["Subnet"] for config in json.loads(host.docker("network", "inspect", "n1"))[0]["IPAM"]["Config"]]
    v6 = next(ip_network(subnet) for subnet in subnets if ":" in subnet)
    assert v6.prefixlen == 64
    assert v6.subnet_of(ip_network("fd00::/8"))  # type: ignore[arg-type]
    host.idle("ann", "--network", "n1")
    given = host.facts("ann", '(index .NetworkSettings.Networks "n1").GlobalIPv6Address')
    assert ip_address(given) in v6
    assert f"{given}/64" in host.sh("ann", "ip -6 addr show dev eth0")


def test_the_engines_own_driver_takes_them_too(host: Host) -> None:
    subnet = ip_network(create(host, "n1", driver="bridge")["Subnet"])
    host.web("ann", "--network", "n1")
    assert host.address_of("ann", "n1") == str(subnet[2])
    assert host.once("wget -qO- http://ann/", "--network", "n1") == "lab"


@pytest.mark.parametrize("who", ["plugin", "engine", "both"])
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_restart_changes_no_address_that_is_in_use(host: Host, who: str, how: str) -> None:
    create(host, "n1", "--subnet", "10.61.0.0/24")
    options = ("--network", "n1", "--restart", "always", "--stop-timeout", "1")
    host.idle("ann", *options, "--ip", "10.61.0.20")
    host.idle("bob", "--network", "n1", "--stop-timeout", "1")
    daemons = {"plugin": [host.plugins["pynet"]], "engine": [host.engine]}
    for daemon in reversed(daemons.get(who, [*daemons["plugin"], *daemons["engine"]])):
        if how == "kill":
            daemon.kill()
        else:
            daemon.stop()
    host.ensure_running()
    assert host.address_of("ann", "n1") == "10.61.0.20"
    assert "inet 10.61.0.20/24 " in host.sh("ann", "ip -4 addr show dev eth0")
    refused = host.docker_error("run", "--rm", "--network", "n1", "--ip", "10.61.0.20", "lab", "true")
    assert "Address already in use" in refused
    assert "Pool overlaps" in host.docker_error("network", "create", *ours(host), "--subnet=10.61.0.0/16", "x")
    host.docker("rm", "-f", "ann", "bob")
    host.docker("network", "rm", "n1")
    create(host, "n1", "--subnet", "10.61.0.0/16")


def test_an_address_whose_release_was_missed_can_be_asked_for(host: Host) -> None:
    """The engine dies, and finds no plugin to tell when it is back: it still gives the address to a new container."""
    create(host, "n1", "--subnet", "10.61.0.0/24")
    host.idle("ann", "--network", "n1", "--ip", "10.61.0.20", "--stop-timeout", "1")
    host.crash()
    host.engine.start(120)
    host.plugins["pynet"].start()
    host.idle("bob", "--network", "n1", "--ip", "10.61.0.20")
    assert host.address_of("bob", "n1") == "10.61.0.20"


def test_options_that_there_are_not_are_refused(host: Host) -> None:
    text = host.docker_error("network", "create", *ours(host), "--ipam-opt", "stiky=true", "n1")
    assert "the nearest is sticky" in text
