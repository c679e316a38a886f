"""egress_rate and ingress_rate, seen from inside the containers, of a network and of a single endpoint."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.lab import circumstances
from integration.lab.circumstances import bridged_frames
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

POUR = str(Path(circumstances.__file__).with_name("pour.py"))
MBIT = 1_000_000
RATE = 8 * MBIT
AMOUNT = 2 * 1000 * 1000  # two seconds' worth at RATE
FREE = 3 * RATE  # what is not held to RATE is at least this fast


@contextlib.contextmanager
def pouring(machine: WireHost, entering: tuple[str, ...] = ()) -> Iterator[None]:
    """Inside the block the machine serves on port 9100."""
    log = machine.machine.root / "pour.log"
    with log.open("wb") as output:
        server = machine.machine.spawn(*entering, sys.executable, "-IS", POUR, "serve", "9100", output=output)
    try:
        wait_for("server on 9100", lambda: log.read_text() == "ready\n")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(timeout=10)


def speed(host: Host, verb: str, address: str, inside: tuple[str, ...]) -> float:
    """Bits per second of sending to, or taking from, a server, seen from inside the container."""
    return float(host.run(*inside, sys.executable, "-IS", POUR, verb, address, "9100", str(AMOUNT)))


def is_held(measured: float) -> bool:
    return 0.75 * RATE < measured < 1.25 * RATE


@pytest.mark.parametrize(
    ("option", "held", "free", "pass_iptables"),
    [
        ("egress_rate", "send", "take", False),
        ("egress_rate", "send", "take", True),
        ("ingress_rate", "take", "send", True),
    ],
)
def test_of_a_network(host: Host, outside: WireHost, option: str, held: str, free: str, pass_iptables: bool) -> None:
    rate = ["-o", f"{option}=8mbit"]
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", *rate, "n1")
    host.idle("ann", "--network", "n1")
    host.idle("bob", "--network", "n1", "--ip", "10.61.0.11")
    inside = host.network_of("ann")
    with pouring(outside), bridged_frames(host, pass_iptables=pass_iptables):
        assert is_held(speed(host, held, outside.address, inside))
        assert speed(host, free, outside.address, inside) > FREE
    with pouring(host, host.network_of("bob")):
        assert speed(host, held, "10.61.0.11", inside) > FREE, "what neighbours send each other does not leave"


@pytest.mark.parametrize(
    ("option", "held", "free"), [("egress_rate", "send", "take"), ("ingress_rate", "take", "send")]
)
def test_of_an_endpoint(host: Host, outside: WireHost, option: str, held: str, free: str) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    host.idle("ann", "--network", "none")
    host.docker("network", "disconnect", "none", "ann")
    host.docker("network", "connect", "--driver-opt", f"{option}=8mbit", "n1", "ann")
    host.idle("bob", "--network", "n1", "--ip", "10.61.0.11")
    inside = host.network_of("ann")
    with pouring(outside):
        assert is_held(speed(host, held, outside.address, inside))
        assert speed(host, free, outside.address, inside) > FREE
        assert speed(host, held, outside.address, host.network_of("bob")) > FREE
    with pouring(host, host.network_of("bob")):
        assert is_held(speed(host, held, "10.61.0.11", inside)), "neighbours too"


def test_a_rate_that_is_none_is_refused(host: Host) -> None:
    rate = ["-o", "egress_rate=fast"]
    assert "10mbit" in host.docker_error("network", "create", "-d", host.drivers.network, *rate, "n1")
    host.docker("network", "create", "-d", host.drivers.network, "n1")
    host.idle("ann", "--network", "none")
    host.docker("network", "disconnect", "none", "ann")
    refused = host.docker_error("network", "connect", "--driver-opt", "egress_rat=8mbit", "n1", "ann")
    assert "egress_rate" in refused
