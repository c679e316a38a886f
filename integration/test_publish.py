"""Published ports answer to everybody whom they were published to."""

import pytest

from integration.lab.host import Host
from integration.lab.wirehost import WireHost


@pytest.fixture
def network(host: Host) -> str:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    return "n1"


@pytest.fixture
def web(host: Host, network: str) -> str:
    host.web("web", "--network", network, "-p", "8080:80")
    return "web"


@pytest.mark.everywhere
@pytest.mark.usefixtures("web")
def test_it_answers_on_the_host(host: Host) -> None:
    assert host.ask("http", host.address, 8080, "/") == "lab"
    assert host.ask("http", "127.0.0.1", 8080, "/") == "lab"
    assert host.ask("http", "10.61.0.1", 8080, "/") == "lab"


@pytest.mark.everywhere
@pytest.mark.usefixtures("web")
def test_it_answers_another_host_whose_address_it_sees(host: Host, outside: WireHost) -> None:
    assert outside.ask("http", host.address, 8080) == outside.address


@pytest.mark.everywhere
@pytest.mark.usefixtures("web")
def test_it_answers_a_neighbour_through_the_hosts_address(host: Host, network: str) -> None:
    host.idle("ann", "--network", network)
    inside = host.network_of("ann")
    assert host.ask("http", host.address, 8080, "/", entering=inside) == "lab"
    assert host.ask("http", "10.61.0.1", 8080, "/", entering=inside) == "lab"


def test_it_answers_itself_through_the_hosts_address(host: Host, web: str) -> None:
    assert host.ask("http", host.address, 8080, "/", entering=host.network_of(web)) == "lab"


@pytest.mark.usefixtures("web")
def test_it_answers_a_container_of_another_network_through_the_hosts_address(host: Host) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.62.0.0/24", "n2")
    host.idle("ann", "--network", "n2")
    assert host.ask("http", host.address, 8080, "/", entering=host.network_of("ann")) == "lab"


def test_udp_answers_inside_and_outside(host: Host, network: str, outside: WireHost) -> None:
    host.idle("ann", "--network", network, "-p", "5353:53/udp")
    with host.answering("udp", 53, host.network_of("ann")):
        assert outside.ask("udp", host.address, 5353) == outside.address
        assert host.ask("udp", host.address, 5353)
        assert host.ask("udp", "127.0.0.1", 5353)
        assert host.ask("udp", host.address, 5353, entering=host.network_of("ann"))


def test_a_port_published_on_loopback_stays_there(host: Host, network: str, outside: WireHost) -> None:
    host.web("ann", "--network", network, "-p", "127.0.0.1:8080:80")
    assert host.ask("http", "127.0.0.1", 8080, "/") == "lab"
    with pytest.raises(AssertionError, match="8080"):
        outside.ask("http", host.address, 8080)


def test_loopback_is_not_reached_by_a_routing_trick(host: Host, network: str, outside: WireHost) -> None:
    host.web("ann", "--network", network, "-p", "127.0.0.1:8080:80", "-p", "8081:80")
    outside.run("sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=1")
    outside.run("ip", "address", "del", "127.0.0.1/8", "dev", "lo")
    outside.run("ip", "route", "add", "127.0.0.1", "via", host.address)
    try:
        for port in (8080, 8081):
            with pytest.raises(AssertionError, match=str(port)):
                outside.ask("http", "127.0.0.1", port)
    finally:
        outside.run("ip", "route", "del", "127.0.0.1", "via", host.address)
        outside.run("ip", "address", "add", "127.0.0.1/8", "dev", "lo")


def test_two_addresses_can_publish_the_same_port(host: Host, network: str) -> None:
    host.web("ann", "--network", network, "-p", "127.0.0.1:8080:80")
    host.web("bob", "--network", network, "-p", f"{host.address}:8080:80")
    host.sh("bob", "echo second >/www/index.html")
    assert host.ask("http", "127.0.0.1", 8080, "/") == "lab"
    assert host.ask("http", host.address, 8080, "/") == "second"


def test_unpublished_ports_are_closed_to_the_outside(host: Host, web: str, network: str, outside: WireHost) -> None:
    address = host.address_of(web, network)
    outside.run("ip", "route", "add", "10.61.0.0/24", "via", host.address)
    try:
        with host.answering("tcp", 81, host.network_of(web)):
            with pytest.raises(AssertionError, match="81"):
                outside.ask("tcp", address, 81)
    finally:
        outside.run("ip", "route", "del", "10.61.0.0/24", "via", host.address)


def test_a_range_is_published_port_by_port(host: Host, network: str, outside: WireHost) -> None:
    host.idle("ann", "--network", network, "-p", "8000-8002:80-82")
    with host.answering("tcp", 80, host.network_of("ann")), host.answering("tcp", 82, host.network_of("ann")):
        assert outside.ask("tcp", host.address, 8000) == outside.address
        assert outside.ask("tcp", host.address, 8002) == outside.address


@pytest.mark.everywhere
def test_it_is_closed_when_the_container_stops_and_open_when_it_starts(host: Host, web: str, outside: WireHost) -> None:
    host.docker("stop", "-t", "0", web)
    with pytest.raises(AssertionError, match="8080"):
        outside.ask("http", host.address, 8080)
    host.docker("start", web)
    assert outside.ask("http", host.address, 8080) == outside.address
    host.docker("restart", "-t", "0", web)
    assert outside.ask("http", host.address, 8080) == outside.address
