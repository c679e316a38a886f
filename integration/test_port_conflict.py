"""A host port that is taken is an error that says so, and leaves nothing behind."""

import pytest

from integration.lab import snapshot
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

WEB = ("lab", "httpd", "-f", "-h", "/www", "-p", "80")


@pytest.fixture
def network(host: Host) -> str:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    return "n1"


def refused(host: Host, network: str, *publish: str) -> str:
    """The engine's words about a container that could not start; nothing of it is left in the kernel."""
    before = snapshot.take(host.machine)
    said = host.docker_error("run", "-d", "--name", "late", "--network", network, *publish, *WEB)
    host.docker("rm", "-f", "late")
    assert host.changes_since(before) == []
    return said


@pytest.mark.everywhere
def test_a_second_container_is_told_who_holds_the_port(host: Host, network: str, outside: WireHost) -> None:
    host.web("first", "--network", network, "-p", "8080:80")
    said = refused(host, network, "-p", "8080:80")
    assert "8080" in said
    endpoint = host.facts("first", f'(index .NetworkSettings.Networks "{network}").EndpointID')
    assert endpoint[:8] in said or host.address_of("first", network) in said
    assert outside.ask("http", host.address, 8080) == outside.address


def test_the_same_on_another_network(host: Host, network: str) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.62.0.0/24", "n2")
    host.web("first", "--network", network, "-p", "8080:80")
    assert "8080" in refused(host, "n2", "-p", "8080:80")


def test_an_address_conflicts_with_all_addresses(host: Host, network: str) -> None:
    host.web("first", "--network", network, "-p", "8080:80")
    assert "8080" in refused(host, network, "-p", "127.0.0.1:8080:80")


def test_one_taken_port_frees_the_others(host: Host, network: str) -> None:
    host.web("first", "--network", network, "-p", "8080:80")
    refused(host, network, "-p", "8079:79", "-p", "8080:80")
    host.web("other", "--network", network, "-p", "8079:80")
    assert host.ask("http", host.address, 8079, "/") == "lab"


def test_udp_and_tcp_do_not_conflict(host: Host, network: str) -> None:
    host.web("first", "--network", network, "-p", "8080:80")
    host.web("second", "--network", network, "-p", "8080:80/udp")


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_foreign_process_holds_the_port(host: Host, network: str, protocol: str) -> None:
    with host.answering(protocol, 8080):
        said = refused(host, network, "-p", f"8080:80/{protocol}")
        assert "8080" in said
        assert "python" in said, "the error should name the program that holds the port"
    host.web("now", "--network", network, "-p", f"8080:80/{protocol}")


def test_the_engines_own_published_port_conflicts(host: Host, network: str) -> None:
    host.web("first", "-p", "8080:80")
    assert "8080" in refused(host, network, "-p", "8080:80")


def test_the_engine_and_others_cannot_take_a_published_port(host: Host, network: str) -> None:
    host.web("first", "--network", network, "-p", "8080:80")
    assert "8080" in refused(host, "bridge", "-p", "8080:80")
    with pytest.raises(AssertionError, match="in use"), host.answering("tcp", 8080):
        pass
