"""Faults of a cluster with traffic running and containers that come and go.

No flow between healthy hosts breaks, no address is given twice, and afterwards `pynet cluster verify` finds nothing.
"""

import contextlib
import itertools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from integration.lab import image
from integration.lab.clock import WallClock
from integration.lab.daemon import Daemon
from integration.lab.deadline import wait_for
from integration.lab.etcd import EtcdCluster
from integration.lab.fleet import longest_gap, pinging
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.test_cluster_addresses import Hosts, create, hosts, reaches, ready

__all__ = ["hosts"]

LEASE_S = 15


def talking(hosts: Hosts, etcd: EtcdCluster) -> list[str]:
    """Each host has the container ann on blue, and knows the others; return their addresses."""
    for host in hosts:
        create(host, "blue", "--subnet", "10.61.0.0/24")
    ready(etcd, hosts)
    for host in hosts:
        host.idle("ann", "--network", "blue")
    there = [host.address_of("ann", "blue") for host in hosts]
    for host, address in itertools.product(hosts, there):
        wait_for("all know all", lambda h=host, a=address: reaches(h, "ann", a), 10)
    return there


@contextlib.contextmanager
def coming_and_going(host: Host) -> Iterator[Counter[str]]:
    """Inside the block containers come and go, two at a time; after it five are left, and it is known how many came.

    How many could not is counted too: what an engine says of it is in its log.
    """
    over, count = threading.Event(), Counter[str]()

    def come_and_go() -> None:
        for number in itertools.cycle(range(5)):
            done = host.machine.try_run(host.cli, "rm", "-f", f"c{number}")
            words = ("run", "-d", "--name", f"c{number}", "--network", "blue", image.NAME, "sleep", "1000000")
            done = host.machine.try_run(host.cli, *words)
            count["came" if done.returncode == 0 else done.stderr] += 1
            if over.wait(0.3) and count["came"] >= 5:
                return

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        yield count
    finally:
        over.set()
        thread.join()


def given(hosts: Hosts) -> list[str]:
    """The addresses of all containers of blue, by the engines' word."""
    each = '{{range .Containers}}{{.IPv4Address}}{{"\\n"}}{{end}}'
    return [line for host in hosts for line in host.docker("network", "inspect", "-f", each, "blue").split()]


def alive(etcd: EtcdCluster) -> dict[str, int]:
    """The hosts that are alive, and in which revision they came to be."""
    found = json.loads(etcd.ctl("get", "--prefix", "--write-out=json", "/pynet/v1/alive/"))
    return {entry["key"]: entry["mod_revision"] for entry in found.get("kvs", ())}


def assert_healed(hosts: Hosts, etcd: EtcdCluster) -> None:
    """Each address is one container's, all hosts know it, and what their kernels have is what stands in etcd."""
    there = given(hosts)
    assert len(there) == len(set(there))
    verify = (sys.executable, "-m", "netplugin", "cluster", "verify", "--cluster", etcd.url)
    wait_for("all is told", lambda: sum("/endpoint/" in key for key in etcd.all_keys()) == len(there), 15)
    for host in hosts:
        wait_for(f"{host.name} is right", lambda h=host: not h.machine.try_run(*verify).returncode, 15)
        assert all(reaches(host, "ann", address.partition("/")[0]) for address in there)


@pytest.mark.long
def test_all_of_etcd_is_away_for_a_minute(hosts: Hosts, etcd: EtcdCluster) -> None:
    there = talking(hosts, etcd)
    with pinging(hosts[0], "ann", there[1]) as answers, coming_and_going(hosts[1]) as count:
        etcd.stop()
        time.sleep(60)
        etcd.start()
    assert longest_gap(answers) < 0.5
    assert set(count) == {"came"}
    assert_healed(hosts, etcd)


@pytest.mark.long
def test_a_host_is_cut_from_etcd(lab: Lab, hosts: Hosts, etcd: EtcdCluster) -> None:
    """Longer than its lease lasts, and what happened meanwhile is compacted away."""
    there = talking(hosts, etcd)
    with pinging(hosts[0], "ann", there[1]) as answers:
        with lab.wire.parted(hosts[0].machine, etcd.machine.machine):
            with coming_and_going(hosts[0]) as cut_off, coming_and_going(hosts[1]) as count:
                time.sleep(2 * LEASE_S)
            wait_for("its lease to end", lambda: len(alive(etcd)) == 2, LEASE_S)
            etcd.ctl("compact", etcd.revision())
        assert_healed(hosts, etcd)
    assert longest_gap(answers) < 0.5
    assert set(count) == set(cut_off) == {"came"}


# The same fault, in `make test` and for as long as it may last.
@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.long)])
def test_a_host_is_cut_from_its_peers(lab: Lab, hosts: Hosts, etcd: EtcdCluster, seconds: int) -> None:
    """Etcd is there for all of them, so all know what happens, and it holds when the way is there again."""
    there = talking(hosts, etcd)
    with pinging(hosts[0], "ann", there[1]) as healthy:
        with lab.wire.parted(hosts[2].machine, hosts[0].machine, hosts[1].machine):
            with coming_and_going(hosts[2]) as cut_off, coming_and_going(hosts[1]) as count:
                time.sleep(seconds)
            assert not reaches(hosts[2], "ann", there[0])
            assert reaches(hosts[0], "ann", there[1])
        wait_for("they reach each other", lambda: reaches(hosts[2], "ann", there[0]), 5)
    assert longest_gap(healthy) < 0.5
    assert set(count) == set(cut_off) == {"came"}
    assert_healed(hosts, etcd)


@pytest.mark.long
def test_a_host_is_cut_from_all(lab: Lab, hosts: Hosts, etcd: EtcdCluster) -> None:
    """Each half goes on: within the host that is alone, and between the others."""
    there = talking(hosts, etcd)
    with pinging(hosts[0], "ann", there[1]) as healthy:
        with lab.wire.parted(hosts[2].machine, etcd.machine.machine, *(host.machine for host in hosts[:2])):
            with coming_and_going(hosts[2]) as cut_off, coming_and_going(hosts[1]) as count:
                time.sleep(8)
            assert reaches(hosts[2], "ann", hosts[2].address_of("c0", "blue"))
        assert_healed(hosts, etcd)
    assert longest_gap(healthy) < 0.5
    assert set(count) == set(cut_off) == {"came"}


@pytest.fixture
def clock(hosts: Hosts) -> Iterator[WallClock]:
    """The wall clock of the first host's pynet."""
    pynet = hosts[0].plugins["pynet"]
    assert isinstance(pynet, Daemon)
    clock, was = WallClock(hosts[0].machine.root), pynet.env
    pynet.stop()
    pynet.env = {**(was or {}), **clock.env, "PYNET_LOG_LEVEL": "debug"}
    pynet.start()
    yield clock
    pynet.stop()
    pynet.env = was
    pynet.start()


def test_the_wall_clock_jumps(hosts: Hosts, etcd: EtcdCluster, clock: WallClock) -> None:
    """By days, back and forth: liveness, waiting and what is given depend on no wall clock."""
    there = talking(hosts, etcd)
    log = hosts[0].plugins["pynet"].log
    before = alive(etcd)
    with pinging(hosts[1], "ann", there[0]) as answers, coming_and_going(hosts[0]) as count:
        for days in (3, -400, 0):
            jump = timedelta(days=days)
            clock.set(int(jump.total_seconds()))
            told = len(log.read_text())
            # Until after the next beat of the lease.
            time.sleep(LEASE_S / 3 + 0.5)
            day = f"{datetime.now(UTC) + jump:%Y-%m-%d}"
            wait_for("the plugin's clock has jumped", lambda d=day, t=told: d in log.read_text()[t:])
    assert alive(etcd) == before
    assert longest_gap(answers) < 0.5
    assert set(count) == {"came"}
    assert_healed(hosts, etcd)
