"""Plugins are killed, containers end meanwhile, and the plugins know it as soon as they are back."""

from collections.abc import Iterator

import pytest

from integration.lab import plugin, unixhttp
from integration.lab.daemon import Daemon
from tests.runtime.machine import Machine
from tests.runtime.test_containers import eventually
from tests.runtime.test_containers import state as state_of

Pair = dict[str, Daemon]


@pytest.fixture
def plugins(machine: Machine) -> Iterator[Pair]:
    daemons = {name: plugin.daemon(name, machine.namespace, {}, confine=False) for name in ("pynet", "pyvol")}
    try:
        for daemon in daemons.values():
            daemon.start()
        subnet = ("--subnet", "10.78.0.0/24", "--ipam-driver", "pynet")
        machine.docker("network", "create", "-d", "pynet", *subnet, "front")
        machine.docker("volume", "create", "-d", "pyvol", "-o", "size=32M", "kept")
        options = ("--network", "front", "--ip", "10.78.0.20", "-v", "kept:/d", "-p", "8083:80", "--stop-timeout", "0")
        machine.docker("run", "-d", "--name", "ann", *options, "lab", "sleep", "99")
        assert (endpoints(machine), mounts(machine)) == (1, 1)
        yield daemons
        machine.docker("rm", "-f", "ann", "bob")
        machine.docker("volume", "rm", "kept")
        machine.docker("network", "rm", "front")
    finally:
        for daemon in daemons.values():
            daemon.kill()


def endpoints(machine: Machine) -> int:
    """How many pynet knows of, asked by its own socket: nothing of pyrun's goes to it."""
    found = unixhttp.ask(machine.root / "pynet/admin.sock", "/v1/Networks.List", {})
    return sum(len(network["Endpoints"]) for network in found["Networks"])


def mounts(machine: Machine) -> int:
    """How many pyvol knows of."""
    socket = machine.namespace.path(f"{plugin.SOCKETS}/pyvol.sock")
    return len(unixhttp.ask(socket, "/VolumeDriver.Get", {"Name": "kept"})["Volume"]["Status"].get("mounts", {}))


def die(machine: Machine, plugins: Pair) -> None:
    """The plugins are dead, and then the container."""
    pid = str(state_of(machine, "ann")["Pid"])
    for daemon in plugins.values():
        daemon.kill()
    machine.namespace.run("kill", "-9", pid)


@pytest.mark.timeout(240)
def test_they_are_told_when_they_are_back(machine: Machine, plugins: Pair) -> None:
    die(machine, plugins)
    eventually(lambda: state_of(machine, "ann")["Status"] == "exited", 90)
    for daemon in plugins.values():
        daemon.start()
    eventually(lambda: (endpoints(machine), mounts(machine)) == (0, 0), 60)


@pytest.mark.timeout(180)
def test_a_later_daemon_tells_them_before_it_asks_for_anything(machine: Machine, plugins: Pair) -> None:
    die(machine, plugins)
    eventually(lambda: state_of(machine, "ann")["Status"] == "exited", 90)
    machine.daemon.kill()
    machine.daemon.start()
    for daemon in plugins.values():
        daemon.start()
    # The address is the one that was to be released.
    taken = ("--network", "front", "--ip", "10.78.0.20", "-v", "kept:/d", "-p", "8083:80", "--stop-timeout", "0")
    machine.docker("run", "-d", "--name", "bob", *taken, "lab", "sleep", "99")
    assert (endpoints(machine), mounts(machine)) == (1, 1)
