"""Hosts that were alone come into a cluster while their containers run and talk."""

import itertools
from collections.abc import Iterator

import pytest

from integration.lab.circumstances import outcome
from integration.lab.daemon import Daemon
from integration.lab.deadline import wait_for
from integration.lab.etcd import EtcdCluster
from integration.lab.fleet import longest_gap, pinging, started
from integration.lab.host import Host
from integration.lab.lab import Lab

Hosts = tuple[Host, ...]


@pytest.fixture
def hosts(lab: Lab) -> Iterator[Hosts]:
    """Two hosts that know neither each other nor a cluster."""
    hosts = started(lab, 2)
    yield hosts
    try:
        for host in hosts:
            # What they have in etcd goes with it, which others use after this test.
            host.remove_all()
    finally:
        for host in hosts:
            lab.discard(host)


def lives(host: Host) -> dict[str, str]:
    """The processes of the host's containers."""
    return {name: host.facts(name, ".State.Pid") for name in ("ann", "bob")}


def test_two_hosts_that_were_alone(hosts: Hosts, etcd: EtcdCluster) -> None:
    for place, host in enumerate(hosts):
        words = ("--subnet", "10.61.0.0/24", "--gateway", "10.61.0.1", "--ip-range", f"10.61.0.{place * 128}/25")
        host.docker("network", "create", "-d", "pynet", *words, "-o", "type=overlay", "-o", "name=blue", "blue")
        for name in ("ann", "bob"):
            host.idle(name, "--network", "blue")
    there = {host.name: [host.address_of(name, "blue") for name in ("ann", "bob")] for host in hosts}
    before = [lives(host) for host in hosts]
    assert outcome(hosts[0], f"ping {there[hosts[1].name][0]}", hosts[0].network_of("ann")) != "answered"
    with pinging(hosts[0], "ann", there[hosts[0].name][1]) as answers:
        for host in hosts:
            pynet = host.plugins["pynet"]
            assert isinstance(pynet, Daemon)
            pynet.stop()
            pynet.env = {**(pynet.env or {}), "PYNET_CLUSTER": etcd.url}
            pynet.start()
        for host, addresses in itertools.product(hosts, there.values()):
            for address in addresses:
                inside = host.network_of("ann")
                wait_for(
                    "all reach all", lambda h=host, t=f"ping {address}", i=inside: outcome(h, t, i) == "answered", 20
                )
    assert longest_gap(answers) < 0.5
    assert [lives(host) for host in hosts] == before
    keys = etcd.all_keys()
    assert [key for key in keys if key.startswith("/pynet/v1/net/")] == ["/pynet/v1/net/blue"]
    assert {key.rpartition("/")[2] for key in keys if "/address/blue/" in key} >= set(itertools.chain(*there.values()))
