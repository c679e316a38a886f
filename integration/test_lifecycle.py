"""Containers that restart and move between networks keep what they should."""

import pytest

from integration.lab.host import Host
from integration.lab.wirehost import WireHost

pytestmark = pytest.mark.usefixtures("networks")
PING = "ping -c1 -W3 -w5"


@pytest.fixture
def networks(host: Host) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.62.0.0/24", "n2")


@pytest.mark.everywhere
def test_connect_and_disconnect_a_running_container(host: Host, outside: WireHost) -> None:
    host.idle("ann", "--network", "n1")
    host.idle("one", "--network", "n1")
    host.idle("two", "--network", "n2")
    host.docker("network", "connect", "n2", "ann")
    assert host.sh("ann", "ls /sys/class/net").split() == ["eth0", "eth1", "lo"]
    host.sh("ann", f"{PING} one && {PING} two && {PING} {outside.address}")
    host.docker("network", "disconnect", "n1", "ann")
    gone = host.address_of("one", "n1")
    host.sh("ann", f"{PING} two && {PING} {outside.address} && ! {PING} {gone}")
    host.docker("network", "connect", "n1", "ann")
    host.sh("ann", f"{PING} one && {PING} two && {PING} {outside.address}")
    host.docker("network", "disconnect", "n2", "ann")
    host.docker("network", "disconnect", "n1", "ann")
    assert host.sh("ann", "ls /sys/class/net").split() == ["lo"]


def test_published_ports_follow_the_container_to_its_other_network(host: Host, outside: WireHost) -> None:
    host.web("ann", "--network", "n1", "-p", "8080:80")
    host.docker("network", "connect", "n2", "ann")
    assert outside.ask("http", host.address, 8080) == outside.address
    host.docker("network", "disconnect", "n1", "ann")
    assert outside.ask("http", host.address, 8080) == outside.address
    host.docker("network", "disconnect", "n2", "ann")
    with pytest.raises(AssertionError, match="8080"):
        outside.ask("http", host.address, 8080)


def test_restart_of_a_container(host: Host, outside: WireHost) -> None:
    host.web("ann", "--network", "n1", "--ip", "10.61.0.9")
    for _ in range(2):
        host.docker("restart", "-t", "0", "ann")
        assert host.address_of("ann", "n1") == "10.61.0.9"
        assert host.ask("http", "10.61.0.9", 80, "/") == "lab"
        host.sh("ann", f"{PING} {outside.address}")


def test_a_process_that_dies_takes_its_endpoint_along(host: Host) -> None:
    links = host.run("ip", "-o", "link").count("\n")
    host.docker("run", "--name", "ann", "--network", "n1", "-p", "8080:80", "lab", "true")
    host.web("bob", "--network", "n1", "-p", "8080:80")
    host.docker("rm", "-f", "ann", "bob")
    assert host.run("ip", "-o", "link").count("\n") == links


def test_a_network_in_use_is_not_removed(host: Host) -> None:
    host.idle("ann", "--network", "n1")
    assert "active endpoints" in host.docker_error("network", "rm", "n1")
    host.docker("rm", "-f", "ann")
    host.docker("network", "rm", "n1")
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    host.once(f"{PING} 10.61.0.1", "--network", "n1")


def test_an_overlapping_subnet_is_refused(host: Host) -> None:
    said = host.docker_error("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/16", "n3")
    assert "overlap" in said.lower()


def test_many_containers_at_once(host: Host) -> None:
    host.web("hub", "--network", "n1")
    names = [f"c{number}" for number in range(6)]
    script = "for i in 1 2 3 4 5; do wget -qO- http://hub/ && exit; sleep 1; done; exit 1"
    for name in names:
        host.docker("create", "--name", name, "--network", "n1", "lab", "sh", "-c", script)
    host.docker("start", *names)
    assert host.docker("wait", *names).split() == ["0"] * len(names)
