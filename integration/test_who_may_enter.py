"""Options that say by which address, from where, and from whom containers are reached."""

import contextlib
from collections.abc import Iterator

import pytest

from integration.lab.circumstances import address, answering, outcome, route, rule
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

SUBNETS = ("--subnet", "10.61.0.0/24", "--ipv6", "--subnet", "fd61::/64")
BRIDGE = "com.docker.network.bridge"


def publish(host: Host, *options: str, where: str = "8080:80") -> None:
    """A container of a network with these options serves port 80, published as said."""
    given = [word for option in options for word in ("-o", option)]
    host.docker("network", "create", "-d", host.drivers.network, *SUBNETS, *given, "n1")
    host.web("web", "--network", "n1", "--ip", "10.61.0.10", "--ip6", "fd61::10", "-p", where)


def ways(host: Host) -> dict[str, str]:
    """The ways of the host itself to a published port."""
    return {
        "address": f"tcp {host.address} 8080",
        "loopback": "tcp 127.0.0.1 8080",
        "address6": f"tcp {host.address6} 8080",
    }


def test_the_address_of_published_ports(host: Host, outside: WireHost) -> None:
    publish(host, f"{BRIDGE}.host_binding_ipv4={host.address}")
    assert answering(host, ways(host)) == {"address"}
    assert answering(outside, {"it": ways(host)["address"]}) == {"it"}


def test_the_ipv6_address_of_published_ports(host: Host, outside: WireHost) -> None:
    publish(host, f"host_binding_ipv6={host.address6}", f"{BRIDGE}.host_binding_ipv4=127.0.0.1")
    assert answering(host, ways(host)) == {"loopback", "address6"}
    outside_ways = {name: way for name, way in ways(host).items() if name != "loopback"}
    assert answering(outside, outside_ways) == {"address6"}


def test_an_address_with_the_port_goes_before_that_of_the_network(host: Host) -> None:
    publish(host, f"{BRIDGE}.host_binding_ipv4=127.0.0.1", where=f"{host.address}:8080:80")
    assert answering(host, ways(host)) == {"address"}


def direct() -> dict[str, str]:
    return {
        "unpublished": "tcp 10.61.0.10 81", "published": "tcp 10.61.0.10 80", "ping": "ping 10.61.0.10",
        "ping6": "ping fd61::10", "port6": "tcp fd61::10 80",
    }  # fmt: skip


@pytest.mark.parametrize("trusted", [True, False])
def test_whole_containers_are_open_to_trusted_interfaces(host: Host, outside: WireHost, trusted: bool) -> None:
    publish(host, f"{BRIDGE}.trusted_host_interfaces={'nosuch0:eth0' if trusted else 'nosuch0:eth7'}")
    with host.answering("tcp", 81, host.network_of("web")):
        with route(outside, f"10.61.0.0/24 via {host.address}", f"fd61::/64 via {host.address6}"):
            assert answering(outside, direct()) == (set(direct()) if trusted else set())


WORLD = "203.0.113.7"


@contextlib.contextmanager
def from_the_world(host: Host, outside: WireHost) -> Iterator[None]:
    """Inside the block the other machine speaks to the host from an address that is not private."""
    with address(outside, f"{WORLD}/32"), route(host, f"{WORLD} via {outside.address}"):
        with route(outside, f"{host.address} dev eth0 src {WORLD}"):
            yield


def test_published_ports_are_open_to_chosen_sources_only(host: Host, outside: WireHost) -> None:
    publish(host, "publish_from=203.0.113.0/24")
    port = f"tcp {host.address} 8080"
    assert outcome(outside, port) == "silent", "a port that is held does not even answer with a reset"
    assert outcome(outside, f"tcp {host.address6} 8080") == "silent", "a network of the other family is nobody in this"
    with from_the_world(host, outside):
        assert outcome(outside, port) == "answered"
        assert outside.ask("http", host.address, 8080) == WORLD


def test_published_ports_are_open_to_the_lan_only(host: Host, outside: WireHost) -> None:
    publish(host, "publish_from=lan")
    port = f"tcp {host.address} 8080"
    assert outcome(outside, port) == "answered"
    assert answering(host, ways(host)) == {"address", "loopback", "address6"}
    with from_the_world(host, outside):
        assert outcome(outside, port) == "silent"


def test_published_ports_are_open_to_the_host_only(host: Host, outside: WireHost) -> None:
    publish(host, "publish_from=localhost")
    assert answering(host, ways(host)) == {"address", "loopback", "address6"}
    assert outcome(outside, f"tcp {host.address} 8080") == "silent"
    assert outcome(outside, f"tcp {host.address6} 8080") == "silent"


def test_published_ports_are_open_to_all(host: Host, outside: WireHost) -> None:
    publish(host, "publish_from=any")
    with from_the_world(host, outside):
        assert outside.ask("http", host.address, 8080) == WORLD
    assert outcome(outside, f"tcp {host.address6} 8080") == "answered"


def test_the_hosts_own_firewall_decides_about_the_others(host: Host, outside: WireHost) -> None:
    publish(host, "publish_from=203.0.113.0/24")
    port = f"tcp {host.address} 8080"
    with rule(host, "INPUT -p tcp --dport 8080 -j REJECT --reject-with tcp-reset"):
        assert outcome(outside, port) == "refused"
        with from_the_world(host, outside):
            assert outcome(outside, port) == "answered"


def test_a_range_is_open_to_chosen_sources_only(host: Host, outside: WireHost) -> None:
    publish(host, "publish_from=203.0.113.0/24", where="79-81:79-81")
    port = f"tcp {host.address} 80"
    assert outcome(outside, port) == "silent"
    with from_the_world(host, outside):
        assert outcome(outside, port) == "answered"


def test_sources_and_a_mode_that_opens_everything_are_refused_together(host: Host) -> None:
    options = ["-o", "publish_from=lan", "-o", f"{BRIDGE}.gateway_mode_ipv4=nat-unprotected"]
    assert "publish_from" in host.docker_error("network", "create", "-d", host.drivers.network, *options, "n1")
