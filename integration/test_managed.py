"""Both plugins as the engine's own: installed, set, disabled, upgraded and killed, while traffic and writes go on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.managed import ManagedPlugin, built
from integration.lab.wirehost import WireHost

NAMES = ("pynet", "pyvol")
SCRIPTS = Path(__file__).parents[1] / "scripts"
# A shell that starts no programs, so that it needs nothing but its volume.
WRITING = "mkfifo /tmp/never; exec 3<>/tmp/never; while :; do echo x >>/data/log; read -t 1 line <&3; done"


def installed(host: Host, name: str) -> ManagedPlugin:
    plugin = host.plugins[name]
    assert isinstance(plugin, ManagedPlugin)
    return plugin


@pytest.fixture
def busy(apart: Host) -> Host:
    """The same host; "ann" serves on port 8080 and "bob" writes to the volume v1."""
    apart.docker("network", "create", "-d", apart.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    apart.docker("volume", "create", "-d", apart.drivers.volume, "-o", "size=64M", "v1")
    apart.web("ann", "--network", "n1", "-p", "8080:80")
    writing = ("sh", "-c", f"touch /data/log; {WRITING}")
    apart.docker("run", "-d", "--name", "bob", "--network", "n1", "-v", "v1:/data", "lab", *writing)
    return apart


def goes_on(host: Host, outside: WireHost) -> None:
    """Ann answers and bob's file grows: neither was interrupted for good by what has happened."""
    assert outside.ask("http", host.address, 8080) == outside.address
    log = host.machine.path(f"/proc/{host.facts('bob', '.State.Pid')}/root/data/log")
    size = log.stat().st_size
    wait_for("bob's file grows", lambda: log.stat().st_size > size)


def is_whole(host: Host, outside: WireHost) -> None:
    """What was there goes on, and new containers get everything too."""
    goes_on(host, outside)
    assert host.once("wget -qO- http://ann/", "--network", "n1") == "lab"
    host.once("grep -q x /data/log && echo new >/data/other", "--network", "none", "-v", "v1:/data")
    assert host.sh("bob", "cat /data/other") == "new"
    assert "in use" in host.docker_error("volume", "rm", "v1")


def empties(host: Host) -> None:
    """Everything can be removed, and nothing of ours is left in the kernel."""
    host.remove_all()
    assert "pn-" not in host.run("ip", "-o", "link")
    assert "/dev/loop" not in host.run("cat", "/proc/mounts")
    for name in NAMES:
        host.docker("plugin", "disable", name)
        host.docker("plugin", "rm", name)


@pytest.mark.timeout(600)
def test_a_second_build_is_the_same_and_small(tmp_path: Path) -> None:
    subprocess.run([SCRIPTS / "plugins", tmp_path], env={**os.environ, "VENV": sys.prefix}, check=True)
    for name in NAMES:
        digest = f"{name}.digest"
        assert (tmp_path / digest).read_text() == built(name).with_name(digest).read_text()
        files = (path for path in (tmp_path / name).rglob("*") if path.is_file() and not path.is_symlink())
        assert sum(path.stat().st_size for path in files) < 105 * 2**20


@pytest.mark.everywhere
def test_disabled_by_force_and_enabled(busy: Host, outside: WireHost) -> None:
    assert "in use" in busy.docker_error("plugin", "disable", "pyvol")
    for name in NAMES:
        busy.docker("plugin", "disable", "-f", name)
        assert not installed(busy, name).runs()
    goes_on(busy, outside)
    busy.docker("volume", "ls")  # a disabled plugin is no obstacle to others
    for name in NAMES:
        busy.docker("plugin", "enable", name)
    is_whole(busy, outside)
    empties(busy)


def test_a_setting_is_changed(apart: Host) -> None:
    assert "disable plugin before setting" in apart.docker_error("plugin", "set", "pyvol", "PYVOL_DEFAULT_SIZE=32MiB")
    apart.docker("plugin", "disable", "pyvol")
    assert "not settable" in apart.docker_error("plugin", "set", "pyvol", "PYVOL_MOUNT_ROOT=/elsewhere")
    apart.docker("plugin", "set", "pyvol", "PYVOL_DEFAULT_SIZE=32MiB")
    apart.docker("plugin", "enable", "pyvol")
    df = apart.once("df -k /data", "-v", "v1:/data", "--volume-driver", apart.drivers.volume)
    assert df.split()[-5:-4] == ["32768"]


@pytest.mark.parametrize("setting", ["PYNET_LOG_LEVEL=loud", "PYNET_POOLS=base=10.0.0.0,size=99"])
def test_a_wrong_setting_is_told_in_the_engines_log(apart: Host, setting: str) -> None:
    apart.docker("plugin", "disable", "pynet")
    apart.docker("plugin", "set", "pynet", setting)
    apart.docker_error("plugin", "enable", "pynet")
    assert setting.rpartition("=")[2] in installed(apart, "pynet").log_tail()


def test_another_version_takes_over(busy: Host, outside: WireHost) -> None:
    """As `docker plugin upgrade` does, which takes its new version from a registry only: remove, create, enable."""
    for name in NAMES:
        busy.docker("plugin", "disable", "-f", name)
        installed(busy, name).remove()
        goes_on(busy, outside)
        installed(busy, name).start()
    is_whole(busy, outside)
    empties(busy)


@pytest.mark.everywhere
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_engine_ends_and_leaves_containers_alive(busy: Host, outside: WireHost, number: signal.Signals) -> None:
    before = {name: installed(busy, name).pid for name in NAMES}
    os.kill(busy.engine.pid, number)
    wait_for("the engine has ended", lambda: not busy.engine.runs(), 30)
    busy.engine.kill()  # and its containerd
    assert outside.ask("http", busy.address, 8080) == outside.address
    busy.ensure_running()
    assert {name: installed(busy, name).pid for name in NAMES} == before, "a plugin lives on with the containers"
    assert "in use" in busy.docker_error("plugin", "disable", "pyvol")
    is_whole(busy, outside)
    busy.docker("restart", "-t", "0", "ann", "bob")
    is_whole(busy, outside)
    empties(busy)


def test_engine_and_plugins_are_killed_and_containers_are_left_alive(busy: Host, outside: WireHost) -> None:
    busy.crash()
    assert outside.ask("http", busy.address, 8080) == outside.address
    busy.ensure_running()
    is_whole(busy, outside)
    empties(busy)
