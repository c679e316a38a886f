"""Who reaches what in each gateway mode: same network, another network, the host, another host on the wire."""

import contextlib
from collections.abc import Iterator

import pytest

from integration.lab.circumstances import answering, forward_policy, outcome, route
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

MODE4 = "com.docker.network.bridge.gateway_mode_ipv4"
MODE6 = "com.docker.network.bridge.gateway_mode_ipv6"
INSIDE = {"published", "other", "ping"}
ALL = {*INSIDE, "host port"}
ALLOWED = {
    "nat": {"neighbour": ALL, "stranger": {"host port"}, "host": ALL, "outside": {"host port"}},
    "nat-unprotected": {"neighbour": ALL, "stranger": ALL, "host": ALL, "outside": ALL},
    "routed": {
        "neighbour": INSIDE, "stranger": {"published", "ping"}, "host": INSIDE, "outside": {"published", "ping"},
    },
    "isolated": {"neighbour": INSIDE, "stranger": set(), "host": set(), "outside": set()},
}  # fmt: skip


def create(host: Host, mode: str, name: str = "n1", number: int = 61) -> None:
    """A network of both families in that mode."""
    options = ["-o", f"{MODE4}={mode}", "-o", f"{MODE6}={mode}", *(["--internal"] if mode == "isolated" else [])]
    subnets = ["--subnet", f"10.{number}.0.0/24", "--ipv6", "--subnet", f"fd{number}::/64"]
    host.docker("network", "create", "-d", host.drivers.network, *subnets, *options, name)


def targets(host: Host, family: str) -> dict[str, str]:
    container = "10.61.0.10" if family == "ipv4" else "fd61::10"
    return {
        "published": f"tcp {container} 80",
        "other": f"tcp {container} 81",
        "ping": f"ping {container}",
        "host port": f"tcp {host.address if family == 'ipv4' else host.address6} 8080",
    }


@contextlib.contextmanager
def serving(host: Host, mode: str) -> Iterator[None]:
    """A container of a network in that mode serves port 80, which is published, and port 81."""
    create(host, mode)
    host.web("web", "--network", "n1", "--ip", "10.61.0.10", "--ip6", "fd61::10", "-p", "8080:80")
    with host.answering("tcp", 81, host.network_of("web")):
        yield


@pytest.mark.parametrize("policy", ["ACCEPT", "DROP"])
@pytest.mark.parametrize("mode", ALLOWED)
def test_who_reaches_what(host: Host, outside: WireHost, mode: str, policy: str) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(forward_policy(host, policy))
        stack.enter_context(serving(host, mode))
        ways = (f"10.61.0.0/24 via {host.address}", f"fd61::/64 via {host.address6}")
        stack.enter_context(route(outside, *ways))
        create(host, "nat", "n2", 62)
        host.idle("neighbour", "--network", "n1")
        host.idle("stranger", "--network", "n2")
        for family in ("ipv4", "ipv6"):
            wanted = targets(host, family)
            seen = {name: answering(host, wanted, host.network_of(name)) for name in ("neighbour", "stranger")}
            seen["host"] = answering(host, wanted)
            seen["outside"] = answering(outside, wanted)
            assert seen == ALLOWED[mode], family


@pytest.mark.parametrize("mode", ["nat", "nat-unprotected"])
def test_where_addresses_are_translated_the_world_sees_the_hosts(host: Host, outside: WireHost, mode: str) -> None:
    create(host, mode)
    host.idle("ann", "--network", "n1")
    with outside.answering("tcp", 9000):
        for own, other in ((host.address, outside.address), (host.address6, outside.address6)):
            assert host.ask("tcp", other, 9000, entering=host.network_of("ann")) == own


def test_where_they_are_routed_the_world_sees_the_containers(host: Host, outside: WireHost) -> None:
    create(host, "routed")
    host.idle("ann", "--network", "n1", "--ip", "10.61.0.10", "--ip6", "fd61::10")
    inside = host.network_of("ann")
    with route(outside, f"10.61.0.0/24 via {host.address}", f"fd61::/64 via {host.address6}"):
        with outside.answering("tcp", 9000):
            assert host.ask("tcp", outside.address, 9000, entering=inside) == "10.61.0.10"
            assert host.ask("tcp", outside.address6, 9000, entering=inside) == "fd61::10"


def test_a_routed_network_holds_no_port_of_the_host(host: Host) -> None:
    create(host, "routed")
    host.web("ann", "--network", "n1", "-p", "8080:80")
    with host.answering("tcp", 8080):
        assert outcome(host, f"tcp {host.address} 8080") == "answered"


def test_containers_of_a_routed_network_do_not_get_into_a_nat_network(host: Host) -> None:
    create(host, "routed", "n2", 62)
    with serving(host, "nat"):
        host.idle("ann", "--network", "n2")
        for family in ("ipv4", "ipv6"):
            assert answering(host, targets(host, family), host.network_of("ann")) == {"host port"}


def test_an_isolated_network_has_no_address_on_the_host_and_no_gateway(host: Host) -> None:
    create(host, "isolated")
    host.idle("ann", "--network", "n1")
    bridge = "pn-" + host.docker("network", "inspect", "--format", "{{.Id}}", "n1")[:8]
    assert host.run("ip", "-brief", "address", "show", "dev", bridge).split()[2:] == []
    assert "default" not in host.sh("ann", "ip route; ip -6 route")


def test_isolated_without_internal_is_refused(host: Host) -> None:
    refused = host.docker_error("network", "create", "-d", host.drivers.network, "-o", f"{MODE4}=isolated", "n1")
    assert "--internal" in refused
