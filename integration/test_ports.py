"""Ranges, ports of the kernel's choice, and flows that begin before a port is published."""

import re
import sys

import pytest

from integration.lab.circumstances import answering, outcome
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.namespace import CommandFailed
from integration.lab.wirehost import WireHost

# Always the same two ports: to the kernel, one flow.
SAME_FLOW = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.bind(("", 40000))
    client.settimeout(2)
    client.connect((sys.argv[1], 5353))
    client.send(b"who am I")
    print(client.recv(100).decode().strip())
"""


@pytest.fixture(autouse=True)
def networks(host: Host) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.62.0.0/24", "n2")


def host_port(host: Host, container_port: int) -> int:
    """The port of the host that leads to a container port, by the rules of either backend."""
    rules = host.run("sh", "-c", "iptables-save -t nat; nft list ruleset 2>/dev/null || true")
    iptables = rf"--dport (\d+) .*--to-destination [\d.]+:{container_port}\b"
    nftables = rf"tcp \. (\d+)[^:]* : [\d.]+ \. {container_port}\b"
    found = re.findall(iptables, rules) + re.findall(nftables, rules)
    assert len(found) == 1, rules
    return int(found[0])


def same_flow(outside: WireHost, host: Host) -> str:
    return outside.run(sys.executable, "-IS", "-c", SAME_FLOW, host.address).strip()


@pytest.mark.parametrize("where", ["20000-20999:20000-20999", "20000-20999:30000-30999"])
def test_a_thousand_ports(host: Host, outside: WireHost, where: str) -> None:
    first = int(where.split(":")[1].split("-")[0])
    host.idle("ann", "--network", "n1", "-p", where)
    inside = host.network_of("ann")
    with host.answering("tcp", first, inside), host.answering("tcp", first + 500, inside):
        with host.answering("tcp", first + 999, inside):
            for port in (20000, 20500, 20999):
                assert outside.ask("tcp", host.address, port) == outside.address
                assert host.ask("tcp", "127.0.0.1", port)
    edges = {"below": f"tcp {host.address} 19999", "above": f"tcp {host.address} 21000"}
    assert answering(outside, edges) == set()
    host.docker("rm", "-f", "ann")
    assert outcome(outside, f"tcp {host.address} 20500") == "refused", "the port is nobody's again"


def test_a_port_of_the_kernels_choice(host: Host, outside: WireHost) -> None:
    host.web("ann", "--network", "n1", "-p", "80")
    first, last = (int(end) for end in host.run("cat", "/proc/sys/net/ipv4/ip_local_port_range").split())
    port = host_port(host, 80)
    assert first <= port <= last
    assert outside.ask("http", host.address, port) == outside.address


def test_all_exposed_ports(host: Host, outside: WireHost) -> None:
    host.web("ann", "--network", "n1", "--expose", "80", "-P")
    assert outside.ask("http", host.address, host_port(host, 80)) == outside.address


def test_the_next_free_port_of_a_range(host: Host, outside: WireHost) -> None:
    host.web("ann", "--network", "n1", "-p", "8080-8081:80")
    host.web("bob", "--network", "n1", "-p", "8080-8081:80")
    answers = {port: f"tcp {host.address} {port}" for port in ("8080", "8081")}
    assert answering(outside, answers) == set(answers)
    assert "8080-8081" in host.docker_error("run", "--network", "n1", "-p", "8080-8081:80", "lab", "true")


def test_a_port_stays_when_another_network_comes_and_goes(host: Host, outside: WireHost) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.60.0.0/24", "n0")
    host.web("ann", "--network", "n1", "-p", "80")
    port = host_port(host, 80)
    for other in ("n0", "n2"):  # names before and after: the engine may move the gateway, and the ports with it
        host.docker("network", "connect", other, "ann")
        assert host_port(host, 80) == port
        assert outside.ask("http", host.address, port) == outside.address
        host.docker("network", "disconnect", other, "ann")
        assert host_port(host, 80) == port
        assert outside.ask("http", host.address, port) == outside.address


def test_ports_follow_the_gateway(host: Host, outside: WireHost) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.60.0.0/24", "n0")
    host.web("ann", "--network", "n1", "-p", "8080:80")
    steps = (("connect", "n0"), ("disconnect", "n1"), ("connect", "n2"), ("disconnect", "n0"), ("connect", "n1"))
    for step, network in steps:
        host.docker("network", step, network, "ann")
        assert outside.ask("http", host.address, 8080) == outside.address, (step, network)
        assert host.ask("http", "127.0.0.1", 8080, "/") == "lab", (step, network)
        host.sh("ann", f"ping -c1 -W3 -w5 {outside.address}")


def test_a_udp_flow_goes_to_the_new_container(host: Host, outside: WireHost) -> None:
    host.idle("ann", "--network", "n1", "--ip", "10.61.0.10", "-p", "5353:53/udp")
    with host.answering("udp", 53, host.network_of("ann")):
        assert same_flow(outside, host) == outside.address
    host.docker("rm", "-f", "ann")
    host.idle("bob", "--network", "n2", "--ip", "10.62.0.20", "-p", "5353:53/udp")
    with host.answering("udp", 53, host.network_of("bob")):
        assert same_flow(outside, host) == outside.address


def test_a_udp_flow_that_began_before_the_port_was_published(host: Host, outside: WireHost) -> None:
    with pytest.raises(CommandFailed):
        same_flow(outside, host)
    host.idle("ann", "--network", "n1", "-p", "5353:53/udp")
    with host.answering("udp", 53, host.network_of("ann")):
        assert wait_for("the flow is led to the container", lambda: same_flow(outside, host)) == outside.address


def test_a_udp_flow_ends_with_its_port(host: Host, outside: WireHost) -> None:
    """The address is another container's at once: what still flows must not reach it."""
    host.idle("ann", "--network", "n1", "--ip", "10.61.0.10", "-p", "5353:53/udp")
    with host.answering("udp", 53, host.network_of("ann")):
        assert same_flow(outside, host) == outside.address
    host.docker("rm", "-f", "ann")
    host.idle("bob", "--network", "n1", "--ip", "10.61.0.10")
    with host.answering("udp", 53, host.network_of("bob")):
        with pytest.raises(CommandFailed):
            same_flow(outside, host)


def test_hairpin_in_both_families(host: Host) -> None:
    subnets = ["--subnet", "10.63.0.0/24", "--ipv6", "--subnet", "fd63::/64"]
    host.docker("network", "create", "-d", host.drivers.network, *subnets, "n3")
    host.web("ann", "--network", "n3", "-p", "8080:80")
    host.idle("bob", "--network", "n3")
    addresses = (host.address, host.address6, "10.63.0.1", "fd63::1")
    wanted = {address: f"tcp {address} 8080" for address in addresses}
    for name in ("ann", "bob"):
        assert answering(host, wanted, host.network_of(name)) == set(addresses), name
