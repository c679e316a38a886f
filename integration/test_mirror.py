"""`pynet mirror`: a network of the cluster that was made on one host is there on the others."""

import contextlib
from collections.abc import Iterator

import pytest

from integration.lab import image
from integration.lab.circumstances import outcome
from integration.lab.daemon import Daemon
from integration.lab.deadline import wait_for
from integration.lab.etcd import EtcdCluster
from integration.lab.host import Host
from integration.lab.plugin import script
from integration.test_cluster import hosts

__all__ = ["hosts"]


@pytest.fixture
def mirrors(hosts: tuple[Host, ...], etcd: EtcdCluster) -> Iterator[tuple[Host, ...]]:
    """Two hosts, each with its mirror."""
    pair = hosts[:2]
    with contextlib.ExitStack() as stack:
        for host in pair:
            words = [script("pynet"), "mirror", "--cluster", etcd.url, "--driver", host.drivers.network]
            daemon = Daemon(host.machine, "mirror", words, answers=lambda: True)
            daemon.start()
            stack.callback(daemon.kill)
        yield pair
        for host in pair:
            host.remove_all()
        wait_for("definitions are gone", lambda: not [key for key in etcd.all_keys() if "/mirror/" in key], 10)


def networks(host: Host) -> set[str]:
    return set(host.docker("network", "ls", "--format", "{{.Name}}", "--filter", "type=custom").split())


def inspected(host: Host, template: str) -> str:
    return host.docker("network", "inspect", "--format", "{{" + template + "}}", "blue")


@pytest.mark.everywhere
def test_a_network_comes_and_goes_with_that_of_the_host_where_it_was_made(mirrors: tuple[Host, ...]) -> None:
    here, there = mirrors
    driver = here.drivers.network
    here.docker(
        *("network", "create", "-d", driver, "--internal", "--label", "team=x", "-o", "type=overlay", "-o", "name=net"),
        *("-o", "anti_spoof=true", "--ipam-driver", driver, "--ipam-opt", "name=net", "blue"),
    )
    wait_for("it is there", lambda: "blue" in networks(there), 10)
    for what in ('index .Labels "team"', 'index .Options "anti_spoof"', ".Internal", "(index .IPAM.Config 0).Subnet"):
        assert inspected(there, what) == inspected(here, what)
    there.web("bob", "--network", "blue")
    here.idle("ann", "--network", "blue")
    target = f"tcp {there.address_of('bob', 'blue')} 80"
    wait_for("bob is reached", lambda: outcome(here, target, here.network_of("ann")) == "answered", 5)
    # Also one that does not run keeps it.
    there.docker("stop", "-t", "0", "bob")
    here.docker("rm", "-f", "ann")
    here.docker("network", "rm", "blue")
    log = there.machine.root / "mirror.log"
    wait_for("a word about it", lambda: "cannot remove network net: bob use it" in log.read_text(), 10)
    assert "blue" in networks(there)
    there.docker("rm", "-f", "bob")
    wait_for("it is gone", lambda: "blue" not in networks(there), 10)
    assert "blue" not in networks(here)


def test_what_is_removed_by_hand_comes_back_and_what_was_made_by_hand_stays(mirrors: tuple[Host, ...]) -> None:
    here, there = mirrors
    driver = here.drivers.network
    words = ("network", "create", "-d", driver, "-o", "type=overlay", "-o", "name=net")
    shared = ("--ipam-driver", driver, "--ipam-opt", "name=net")
    here.docker(*words, *shared, "blue")
    wait_for("it is there", lambda: "blue" in networks(there), 10)
    first = inspected(there, ".Id")
    there.docker("network", "rm", "blue")
    wait_for("it is there again", lambda: "blue" in networks(there) and inspected(there, ".Id") != first, 10)
    there.docker("network", "create", "other")
    here.docker("network", "rm", "blue")
    wait_for("it is gone", lambda: networks(there) == {"other"}, 10)
    # A bridge, and an overlay whose addresses each engine gives out alone, are nobody else's business.
    here.docker(*words[:-1], "name=alone", "--subnet", "10.61.0.0/24", "alone")
    here.docker("network", "create", "-d", driver, "bridge2")
    here.docker("run", "--rm", "--network", "alone", image.NAME, "true")
    assert networks(there) == {"other"}
