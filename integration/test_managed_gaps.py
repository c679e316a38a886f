"""Whatever happens to plugins and engine, traffic and writes go on as they do with the engine's own drivers."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.lab import beats, image
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.managed import ManagedPlugin
from integration.lab.wirehost import WireHost

# Ours beside the engine's own at the same time: what is more than this is due to the plugins. A loaded machine takes
# hundreds of milliseconds from either.
TOLERANCE_S = 1.0
PORTS = {"ours": 8080, "theirs": 8081}
# Both clocks start with the machine.
SERVING = "while :; do cut -d' ' -f1 /proc/uptime >>/data/log; sleep 0.1; done & exec httpd -f -h /www -p 80"


def disabled_and_enabled(host: Host) -> None:
    for name in host.plugins:
        host.docker("plugin", "disable", "-f", name)
    time.sleep(2)
    for name in host.plugins:
        host.docker("plugin", "enable", name)


def plugins_killed(host: Host) -> None:
    for plugin in host.plugins.values():
        assert isinstance(plugin, ManagedPlugin)
        plugin.kill()
        wait_for(f"{plugin.name} answers again", lambda it=plugin: it.runs() and it.answers(), 60)


def engine_ended(host: Host, number: signal.Signals) -> None:
    os.kill(host.engine.pid, number)
    wait_for("the engine has ended", lambda: not host.engine.runs(), 60)
    host.engine.kill()  # and its containerd
    time.sleep(2)
    host.ensure_running()


def engine_killed(host: Host) -> None:
    engine_ended(host, signal.SIGKILL)


def engine_restarted(host: Host) -> None:
    engine_ended(host, signal.SIGTERM)


@pytest.fixture
def side_by_side(apart: Host) -> Host:
    """Two containers that serve and write: "ours" with our drivers, "theirs" with the engine's own."""
    drivers = {"ours": (apart.drivers.network, apart.drivers.volume), "theirs": ("bridge", "local")}
    for name, (network, volume) in drivers.items():
        apart.docker("network", "create", "-d", network, f"net-{name}")
        apart.docker("volume", "create", "-d", volume, f"vol-{name}")
        options = ("--network", f"net-{name}", "-p", f"{PORTS[name]}:80", "-v", f"vol-{name}:/data")
        apart.docker("run", "-d", "--name", name, *options, image.NAME, "sh", "-c", SERVING)
    return apart


@contextlib.contextmanager
def asking(host: Host, outside: WireHost) -> Iterator[Callable[[str], list[float]]]:
    """Inside the block both are asked from outside; yield what tells when one answered."""
    log = outside.machine.root / "beats.log"
    targets = {name: f"{host.address}:{port}" for name, port in PORTS.items()}
    with log.open("wb") as output:
        client = outside.machine.spawn(
            sys.executable, "-IS", str(Path(beats.__file__)), *targets.values(), output=output
        )

    def moments(name: str) -> list[float]:
        lines = (line.split() for line in log.read_text().splitlines())
        return [float(line[1]) for line in lines if len(line) == 2 and line[0] == targets[name]]

    try:
        wait_for("both answer", lambda: all(moments(name) for name in targets), 30)
        yield moments
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(client.pid, signal.SIGKILL)
        client.wait(timeout=10)


def writes(host: Host, name: str) -> list[float]:
    """When the container wrote to its volume."""
    log = host.machine.path(f"/proc/{host.facts(name, '.State.Pid')}/root/data/log")
    return [float(line) for line in log.read_text().split()[:-1]]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("happens", [disabled_and_enabled, plugins_killed, engine_killed, engine_restarted])
def test_nothing_stops_that_would_not_stop_without_us(
    side_by_side: Host, outside: WireHost, happens: Callable[[Host], None]
) -> None:
    host = side_by_side
    with asking(host, outside) as answers:
        start = time.clock_gettime(time.CLOCK_BOOTTIME)
        happens(host)
        time.sleep(2)
        end = time.clock_gettime(time.CLOCK_BOOTTIME)
        gaps = {
            (name, what): beats.longest_gap(moments, start, end)
            for name in PORTS
            for what, moments in (("traffic", answers(name)), ("writes", writes(host, name)))
        }
    print(happens.__name__, {" ".join(key): round(gap, 2) for key, gap in gaps.items()})
    for what in ("traffic", "writes"):
        assert gaps["ours", what] <= gaps["theirs", what] + TOLERANCE_S, gaps
    host.remove_all()
