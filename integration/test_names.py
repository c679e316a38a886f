"""Containers of an overlay find each other by name wherever they are (`-o dns=true`)."""

import os
import signal
import sys
import time

import pytest

from integration.lab.circumstances import outcome
from integration.lab.deadline import wait_for
from integration.lab.etcd import EtcdCluster
from integration.lab.host import Host
from integration.lab.wirehost import WireHost
from integration.test_cluster import hosts

__all__ = ["hosts"]

GATEWAY, GATEWAY6 = "10.61.0.1", "fd61::1"
NAMES = ("-o", "type=overlay", "-o", "name=blue", "-o", "dns=true")


def create(host: Host, *words: str) -> None:
    pools = ["--subnet", "10.61.0.0/24", "--gateway", GATEWAY, "--ipv6", "--subnet", "fd61::/64", "--gateway", GATEWAY6]
    cluster = ["--ipam-driver", host.drivers.network, "--ipam-opt", "name=blue"]
    host.docker("network", "create", "-d", host.drivers.network, *pools, *cluster, *NAMES, *words, "blue")


@pytest.fixture
def pair(hosts: tuple[Host, ...]) -> tuple[Host, ...]:
    """Two hosts with one network, and a container on the first, ann, that asks the gateway for names."""
    for host in hosts[:2]:
        create(host)
    hosts[0].idle("ann", "--network", "blue", "--dns", GATEWAY)
    return hosts[:2]


def found(host: Host, name: str, container: str = "ann") -> set[str]:
    """The addresses that a container finds for a name, by the engine's own DNS; none if there is no such name."""
    said = host.sh(container, f"nslookup {name} 2>&1 || true").partition("\n\n")[2]
    return {line.split()[-1] for line in said.splitlines() if line.startswith("Address")}


def both(host: Host, container: str) -> set[str]:
    six = host.facts(container, '(index .NetworkSettings.Networks "blue").GlobalIPv6Address')
    return {host.address_of(container, "blue"), six}


@pytest.mark.everywhere
def test_a_name_of_another_host_is_found_and_gone_within_a_second(pair: tuple[Host, Host]) -> None:
    here, there = pair
    there.idle("bob", "--network", "blue", "--network-alias", "db")
    for name in ("bob", "db", "bob.blue"):
        wait_for(f"{name} is found", lambda n=name: found(here, n) == both(there, "bob"), 2)
    there.docker("rename", "bob", "bill")
    wait_for("the new name", lambda: found(here, "bill") and not found(here, "bob"), 2)
    there.docker("rm", "-f", "bill")
    gone = time.monotonic()
    wait_for("bill is gone", lambda: not found(here, "bill"), 3)
    assert time.monotonic() - gone < 1.0


def test_other_names_are_left_to_the_next_server(outside: WireHost, pair: tuple[Host, ...]) -> None:
    here, there = pair
    log = outside.root / "dns.log"
    words = ("-m", "dnslib.fixedresolver", "--address", outside.address, "--response", ". 60 A 192.0.2.7")
    with log.open("wb") as output:
        server = outside.machine.spawn(sys.executable, *words, output=output)
    try:
        here.idle("cat", "--network", "blue", "--dns", GATEWAY, "--dns", outside.address)
        there.idle("bob", "--network", "blue")
        wait_for("bob is found", lambda: found(here, "bob", "cat") == both(there, "bob"), 2)
        assert "192.0.2.7" in found(here, "example.com", "cat")
        # What is no container's is asked of nobody else, and pynet asks nobody.
        assert found(here, "nosuch", "cat") == set()
        assert found(here, "example.com") == set()
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(timeout=10)


def test_names_outlive_pynet_and_etcd_and_what_was_missed_is_caught_up(
    pair: tuple[Host, ...], etcd: EtcdCluster
) -> None:
    here, there = pair
    there.idle("bob", "--network", "blue")
    wait_for("bob is found", lambda: found(here, "bob") == both(there, "bob"), 2)
    etcd.stop()
    for host in pair:
        host.plugins["pynet"].kill()
        host.plugins["pynet"].start()
    assert found(here, "bob") == both(there, "bob")
    etcd.start()
    there.plugins["pynet"].kill()
    there.docker("rename", "bob", "bill")
    there.plugins["pynet"].start()
    wait_for("the new name", lambda: found(here, "bill") == both(there, "bill") and not found(here, "bob"), 10)


def test_a_container_that_is_connected_later_is_found(pair: tuple[Host, ...]) -> None:
    here, there = pair
    there.docker("network", "create", "-d", there.drivers.network, "other")
    there.idle("bob", "--network", "other")
    there.docker("network", "connect", "--alias", "db", "blue", "bob")
    for name in ("bob", "db"):
        wait_for(f"{name} is found", lambda n=name: found(here, n) == both(there, "bob"), 5)
    # Who is on the other network alone does not get an answer, and is told so at once.
    there.idle("dan", "--network", "other")
    assert outcome(there, f"tcp {GATEWAY} 53", there.network_of("dan")) == "refused"
    there.docker("network", "disconnect", "blue", "bob")
    wait_for("bob is gone", lambda: not found(here, "bob") and not found(here, "db"), 2)


def test_on_an_internal_network_the_gateway_is_asked_directly(hosts: tuple[Host, ...]) -> None:
    here, there = hosts[:2]
    for host in (here, there):
        create(host, "--internal")
    here.idle("ann", "--network", "blue", "--dns", GATEWAY)
    there.idle("bob", "--network", "blue")
    wait_for("bob is found", lambda: found(here, f"bob {GATEWAY}") == both(there, "bob"), 2)
    assert found(here, f"example.com {GATEWAY}") == set()
