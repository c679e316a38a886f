"""--internal: nothing leaves the network, not even one packet to a published port of another one."""

import os
import signal
import sys

import pytest

from integration.lab.circumstances import answering
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

MODE = "com.docker.network.bridge.gateway_mode_ipv4"
# Prints every datagram until one says "last".
RECEIVE = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("", 53))
    said = "ready"
    while True:
        print(said, flush=True)
        if said == "last":
            break
        said = server.recv(100).decode()
"""
SEND = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.sendto(sys.argv[3].encode(), (sys.argv[1], int(sys.argv[2])))
"""


@pytest.fixture
def inside(host: Host) -> tuple[str, ...]:
    """The command that enters a container of an internal network that has given itself a route."""
    host.docker("network", "create", "-d", host.drivers.network, "--internal", "--subnet", "10.62.0.0/24", "n2")
    host.idle("ann", "--network", "n2")
    entering = host.network_of("ann")
    host.run(*entering, "ip", "route", "add", "default", "via", "10.62.0.1")
    return entering


@pytest.mark.parametrize("mode", ["nat", "nat-unprotected", "routed"])
def test_other_networks_are_not_reached(host: Host, inside: tuple[str, ...], mode: str) -> None:
    """Not by its own gateway's address either, which it needs no route for."""
    subnet = ["--subnet", "10.61.0.0/24"]
    host.docker("network", "create", "-d", host.drivers.network, *subnet, "-o", f"{MODE}={mode}", "n1")
    host.web("web", "--network", "n1", "--ip", "10.61.0.10", "-p", "8080:80")
    wanted = {
        "container": "tcp 10.61.0.10 80", "ping": "ping 10.61.0.10", "host": f"tcp {host.address} 8080",
        "own gateway": "tcp 10.62.0.1 8080",
    }  # fmt: skip
    assert answering(host, wanted, inside) == set()


@pytest.mark.parametrize("mode", ["nat", "nat-unprotected"])
def test_not_a_single_packet_leaves(host: Host, outside: WireHost, inside: tuple[str, ...], mode: str) -> None:
    subnet = ["--subnet", "10.61.0.0/24"]
    host.docker("network", "create", "-d", host.drivers.network, *subnet, "-o", f"{MODE}={mode}", "n1")
    host.idle("dns", "--network", "n1", "--ip", "10.61.0.10", "-p", "5353:53/udp")
    log = host.machine.root / "datagrams.log"
    with log.open("wb") as output:
        server = host.machine.spawn(
            *host.network_of("dns"), sys.executable, "-IS", "-c", RECEIVE, output=output
        )  # fmt: skip
    try:
        wait_for("server on 53", lambda: log.read_text() == "ready\n")
        for address, port in (("10.62.0.1", 5353), (host.address, 5353), ("10.61.0.10", 53)):
            host.run(*inside, sys.executable, "-IS", "-c", SEND, address, str(port), "leaked")
        outside.run(sys.executable, "-IS", "-c", SEND, host.address, "5353", "last")
        server.wait(timeout=10)
        assert log.read_text() == "ready\nlast\n"
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(timeout=10)


def test_its_own_host_and_neighbours_are_reached(host: Host, inside: tuple[str, ...]) -> None:
    host.web("bob", "--network", "n2", "--ip", "10.62.0.10")
    wanted = {"neighbour": "tcp 10.62.0.10 80", "ping": "ping 10.62.0.10", "gateway": "ping 10.62.0.1"}
    assert answering(host, wanted, inside) == set(wanted)
    assert answering(host, {"it": "tcp 10.62.0.10 80"}) == {"it"}


@pytest.mark.usefixtures("inside")
def test_nothing_is_published(host: Host, outside: WireHost) -> None:
    host.web("bob", "--network", "n2", "-p", "8080:80")
    assert answering(outside, {"it": f"tcp {host.address} 8080"}) == set()
    assert answering(host, {"it": f"tcp {host.address} 8080"}) == set()
