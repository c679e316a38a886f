"""What Docker's own suites ask of managed plugins, asked of ours: states, names, references, and the engine's end."""

import os
import signal
from pathlib import Path

import pytest

from integration.lab import managed
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.managed import ManagedPlugin

DEMO = Path(__file__).parents[1] / "scripts" / "demo"
NAMES = ("pynet", "pyvol")


def listed(host: Host, *filters: str) -> set[str]:
    words = [word for each in filters for word in ("--filter", each)]
    return set(host.docker("plugin", "ls", *words, "--format", "{{.Name}}").split())


def ended(host: Host, number: signal.Signals) -> None:
    """The engine is dead by the signal, and so is its containerd."""
    os.kill(host.engine.pid, number)
    wait_for("the engine has ended", lambda: not host.engine.runs(), 60)
    host.engine.kill()


def plugins(host: Host) -> list[ManagedPlugin]:
    found = [plugin for plugin in host.plugins.values() if isinstance(plugin, ManagedPlugin)]
    assert [plugin.name for plugin in found] == list(NAMES)
    return found


def test_names_and_filters(apart: Host) -> None:
    assert listed(apart) == listed(apart, "enabled=true") == {"pynet:latest", "pyvol:latest"}
    assert listed(apart, "capability=volumedriver") == {"pyvol:latest"}
    # An engine wants every type of a plugin to be among those that are asked for.
    assert listed(apart, "capability=networkdriver", "capability=ipamdriver") == {"pynet:latest"}
    for plugin in plugins(apart):
        for name in (plugin.name, f"{plugin.name}:latest", plugin.ident, plugin.ident[:12]):
            assert apart.docker("plugin", "inspect", "--format", "{{.Id}}", name) == plugin.ident
        said = apart.docker_error("plugin", "create", plugin.name, str(managed.built(plugin.name)), timeout_s=180)
        assert "already exists" in said
        assert "already enabled" in apart.docker_error("plugin", "enable", plugin.name)
        assert "is enabled" in apart.docker_error("plugin", "rm", plugin.name)
        apart.docker("plugin", "disable", plugin.name)
        assert "already disabled" in apart.docker_error("plugin", "disable", plugin.name)
        apart.docker("plugin", "rm", plugin.name)
        assert "no such plugin" in apart.docker_error("plugin", "inspect", plugin.name).lower()


def test_the_demo(apart: Host) -> None:
    drivers = (f"PYDEMO_NETWORK={apart.drivers.network}", f"PYDEMO_VOLUME={apart.drivers.volume}")
    path = f"PATH={apart.kind.path()}"
    told = apart.run("env", path, "DOCKER_HOST=unix:///run/docker.sock", *drivers, str(DEMO), timeout_s=120)
    assert "written by the first container" in told
    assert "No space left on device" in told
    assert apart.docker("volume", "ls", "-q") == ""


def test_what_is_in_use_stays(apart: Host) -> None:
    apart.docker("volume", "create", "-d", apart.drivers.volume, "-o", "size=32M", "v1")
    apart.docker("network", "create", "-d", apart.drivers.network, "n1")
    for plugin in plugins(apart):
        assert "in use" in apart.docker_error("plugin", "disable", plugin.name)
        assert "in use" in apart.docker_error("plugin", "rm", plugin.name)
    apart.docker("volume", "rm", "v1")
    apart.docker("network", "rm", "n1")
    for plugin in plugins(apart):
        apart.docker("plugin", "disable", plugin.name)
        apart.docker("plugin", "rm", plugin.name)


def test_a_driver_that_cannot_make_it_is_not_in_use(apart: Host) -> None:
    apart.docker_error("volume", "create", "-d", apart.drivers.volume, "-o", "size=nonsense", "v1")
    apart.docker_error("network", "create", "-d", apart.drivers.network, "-o", "nonsense=1", "n1")
    for plugin in plugins(apart):
        apart.docker("plugin", "disable", plugin.name)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_enabled_and_disabled_stay_so(apart: Host, number: signal.Signals) -> None:
    """Also without live-restore: an orderly end takes the plugins along, a sudden one leaves them alone."""
    apart.engine.argv.remove("--live-restore")
    pynet, pyvol = plugins(apart)
    apart.docker("plugin", "disable", "pyvol")
    ended(apart, signal.SIGKILL)  # whoever started with live-restore ends with it
    apart.engine.start(timeout_s=60, attempts=3)
    wait_for("pynet answers", lambda: pynet.runs() and pynet.answers(), 30)
    processes = pynet.processes()
    ended(apart, number)
    alive = set(processes) & set(pynet.processes())
    assert bool(alive) == (number == signal.SIGKILL)
    apart.engine.start(timeout_s=60, attempts=3)
    wait_for("pynet answers", lambda: pynet.runs() and pynet.answers(), 30)
    assert listed(apart, "enabled=true") == {"pynet:latest"}
    assert listed(apart, "enabled=false") == {"pyvol:latest"}
    assert not pyvol.runs()
    apart.docker("network", "create", "-d", apart.drivers.network, "n1")
    apart.docker("network", "rm", "n1")
    apart.docker("plugin", "enable", "pyvol")
    assert apart.once("echo kept >/data/file; cat /data/file", "-v", "v1:/data", "--volume-driver", "pyvol") == "kept"
