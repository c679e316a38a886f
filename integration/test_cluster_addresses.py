"""Overlays whose addresses come from the cluster: one subnet, one gateway, each address once, whatever is away."""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network

import pytest

from integration.lab import image
from integration.lab.circumstances import outcome
from integration.lab.deadline import wait_for
from integration.lab.etcd import EtcdCluster
from integration.lab.fleet import longest_gap, pinging
from integration.lab.host import Host

Hosts = tuple[Host, ...]


@pytest.fixture
def hosts(fleet: Hosts, etcd: EtcdCluster) -> Iterator[Hosts]:
    """Three running hosts; after the test they are as before it, and nothing is left in etcd but that they exist."""
    yield fleet
    etcd.start()
    for host in fleet:
        host.ensure_running()
        host.clean()
    assert [change for host in fleet for change in host.changes_since(host.before)] == []
    known = {"host", "alive"}
    wait_for("nothing left in etcd", lambda: {key.split("/")[3] for key in etcd.all_keys()} == known, 15)


def create(host: Host, name: str, *words: str) -> tuple[str, str]:
    """The host has the network; its subnet and gateway are returned."""
    ours = ("-d", host.drivers.network, "--ipam-driver", host.drivers.network, "--ipam-opt", f"name={name}")
    host.docker("network", "create", *ours, "-o", "type=overlay", "-o", f"name={name}", *words, name)
    config = json.loads(host.docker("network", "inspect", name))[0]["IPAM"]["Config"][0]
    return config["Subnet"], config.get("Gateway", "").partition("/")[0]


def ready(etcd: EtcdCluster, hosts: Hosts, families: int = 1) -> None:
    """Each host has a block."""
    wait_for("blocks", lambda: len([key for key in etcd.all_keys() if "/block/" in key]) >= len(hosts) * families, 10)


def ids(etcd: EtcdCluster, kind: str) -> set[str]:
    """The IDs of the hosts that exist, or are alive."""
    return {key.rpartition("/")[2] for key in etcd.all_keys() if key.startswith(f"/pynet/v1/{kind}/")}


def reaches(host: Host, container: str, address: str) -> bool:
    return outcome(host, f"ping {address}", host.network_of(container)) == "answered"


@pytest.mark.everywhere
def test_hosts_that_make_a_network_at_once_share_it(hosts: Hosts, etcd: EtcdCluster) -> None:
    with ThreadPoolExecutor(len(hosts)) as pool:
        [(subnet, gateway)] = set(pool.map(lambda host: create(host, "blue", "--ipv6"), hosts))
    ready(etcd, hosts, families=2)
    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(lambda host: [host.idle(name, "--network", "blue") for name in ("ann", "bob")], hosts))
    addresses = [host.address_of(name, "blue") for host in hosts for name in ("ann", "bob")]
    assert len({*addresses, gateway}) == 7
    assert all(ip_address(address) in ip_network(subnet) for address in addresses)
    wait_for("all are known", lambda: all(reaches(hosts[0], "ann", address) for address in addresses[1:]), 5)


def test_a_container_moves_with_its_address_wherever_that_came_from(hosts: Hosts, etcd: EtcdCluster) -> None:
    for host in hosts:
        create(host, "blue", "--subnet", "10.61.0.0/24")
    ready(etcd, hosts)
    hosts[0].idle("ann", "--network", "blue")
    hosts[1].idle("bob", "--network", "blue")
    address = hosts[1].address_of("bob", "blue")
    refused = hosts[2].docker_error("run", "--rm", "--network", "blue", "--ip", address, image.NAME, "true")
    assert "Address already in use on blue" in refused
    hosts[1].docker("rm", "-f", "bob")
    for place in (2, 0, 1):
        hosts[place].idle("bob", "--network", "blue", "--ip", address)
        assert hosts[place].address_of("bob", "blue") == address
        wait_for("bob is reached", lambda: reaches(hosts[0], "ann", address), 5)
        hosts[place].docker("rm", "-f", "bob")


def test_all_of_etcd_is_away_and_hosts_go_on(hosts: Hosts, etcd: EtcdCluster) -> None:
    for host in hosts:
        create(host, "blue", "--subnet", "10.61.0.0/24")
    ready(etcd, hosts)
    for host in hosts[:2]:
        host.idle("ann", "--network", "blue")
    hosts[1].idle("old", "--network", "blue")
    with pinging(hosts[0], "ann", hosts[1].address_of("ann", "blue")) as answers:
        etcd.stop()
        hosts[1].docker("rm", "-f", "old")
        for host in hosts[:2]:
            host.plugins["pynet"].kill()
            host.plugins["pynet"].start()
            for name in ("bob", "cat", "dan"):
                host.idle(name, "--network", "blue")
        bob = hosts[0].address_of("bob", "blue")
        # Those of one host reach each other at once, those of others when etcd is back.
        assert reaches(hosts[0], "ann", bob)
        given = [host.address_of(name, "blue") for host in hosts[:2] for name in ("ann", "bob", "cat", "dan")]
        assert len(set(given)) == 8
        refused = hosts[1].docker_error("run", "--rm", "--network", "blue", "--ip", bob, image.NAME, "true")
        assert "cannot ask etcd" in refused
        etcd.start()
        wait_for("all are told", lambda: sum("/endpoint/" in key for key in etcd.all_keys()) == 8, 15)
        wait_for("bob is reached", lambda: reaches(hosts[1], "ann", bob), 5)
    assert longest_gap(answers) < 0.5


@pytest.mark.long
def test_a_host_is_cut_from_etcd_and_taken_for_dead(hosts: Hosts, etcd: EtcdCluster) -> None:
    """Its lease ends, others stop sending to it, and it goes on giving addresses; nobody else has one of them."""
    for host in hosts:
        create(host, "blue", "--subnet", "10.61.0.0/24")
    ready(etcd, hosts)
    for host in hosts[:2]:
        host.idle("ann", "--network", "blue")
    away = ("blackhole", etcd.machine.address)
    alive = ids(etcd, "alive")
    hosts[0].run("ip", "route", "add", *away)
    try:
        hosts[0].idle("bob", "--network", "blue")
        wait_for("its lease to end", lambda: len(alive - ids(etcd, "alive")) == 1, 30)
        [gone] = alive - ids(etcd, "alive")
        forget = (sys.executable, "-m", "netplugin", "cluster", "forget", gone, "--cluster", etcd.url)
        assert "forgot" in hosts[1].run(*forget)
        taken = [hosts[0].address_of(name, "blue") for name in ("ann", "bob")]
        for address in taken:
            refused = hosts[1].docker_error("run", "--rm", "--network", "blue", "--ip", address, image.NAME, "true")
            assert "does not answer" in refused or "Address already in use" in refused
    finally:
        hosts[0].run("ip", "route", "del", *away)
    wait_for("all are told", lambda: sum("/endpoint/" in key for key in etcd.all_keys()) == 3, 15)
    for address in taken:
        wait_for("it is reached", lambda a=address: reaches(hosts[1], "ann", a), 5)


@pytest.mark.long
def test_a_host_is_killed_and_returns(hosts: Hosts, etcd: EtcdCluster) -> None:
    for host in hosts:
        create(host, "blue")
    ready(etcd, hosts)
    hosts[0].idle("ann", "--network", "blue")
    hosts[1].idle("ann", "--network", "blue", "--restart", "always")
    address = hosts[1].address_of("ann", "blue")
    hosts[1].crash()
    hosts[2].idle("bob", "--network", "blue")
    hosts[1].ensure_running()
    hosts[1].docker("start", "ann")
    assert hosts[1].address_of("ann", "blue") not in (
        hosts[0].address_of("ann", "blue"),
        hosts[2].address_of("bob", "blue"),
    )
    address = hosts[1].address_of("ann", "blue")
    wait_for("it is reached", lambda: reaches(hosts[0], "ann", address), 10)
