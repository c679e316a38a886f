"""What Docker's own suite asks of a volume driver of others: names, anonymous volumes, restarts, who is in the way."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.namespace import children
from integration.lab.pyvol import pyvol, pyvol_error

NONE = ("--network", "none")


def create(host: Host, name: str, *options: str) -> None:
    host.docker("volume", "create", "-d", host.drivers.volume, *options, *host.drivers.sized, name)


def is_nothing_mounted(host: Host) -> bool:
    return "/dev/loop" not in host.run("cat", "/proc/mounts")


def programs(pid: int) -> list[str]:
    """The names of the process's children."""
    return [Path(f"/proc/{child}/comm").read_text().strip() for child in children(pid)]


def test_a_name_belongs_to_one_driver(host: Host) -> None:
    create(host, "v1")
    assert "must be unique" in host.docker_error("volume", "create", "-d", "local", "v1")
    create(host, "v1")
    host.docker("volume", "create", "-d", "local", "v2")
    assert "must be unique" in host.docker_error("volume", "create", "-d", host.drivers.volume, "v2")


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "volumes-from"])
def test_an_anonymous_volume_goes_with_its_container(host: Host, shared: bool) -> None:
    host.idle("ann", *NONE, "--volume-driver", host.drivers.volume, "-v", "/data")
    host.sh("ann", "echo anns >/data/file")
    if shared:
        assert host.once("cat /data/file", *NONE, "--volumes-from", "ann") == "anns"
        assert host.sh("ann", "cat /data/file") == "anns"
    host.docker("rm", "-f", "-v", "ann")
    assert host.docker("volume", "ls", "-q") == ""
    assert is_nothing_mounted(host)


def test_an_unknown_volume_is_unknown(host: Host) -> None:
    create(host, "v1")
    assert "no such volume" in host.docker_error("volume", "inspect", "v2").lower()
    assert "no such volume" in host.docker_error("volume", "rm", "v2").lower()
    assert json.loads(host.docker("volume", "inspect", "v1"))[0]["Status"]


def test_a_restarted_engine_knows_the_driver_the_labels_and_the_options(host: Host) -> None:
    create(host, "v1", "--label", "tier=gold")
    before = json.loads(host.docker("volume", "inspect", "v1"))
    host.once("echo kept >/data/file", *NONE, "-v", "v1:/data")
    host.engine.stop()
    host.ensure_running()
    host.idle("ann", *NONE, "-v", "v1:/data")
    assert host.sh("ann", "cat /data/file") == "kept"
    assert host.facts("ann", "(index .Mounts 0).Driver") == host.drivers.volume
    after = json.loads(host.docker("volume", "inspect", "v1"))
    for key in ("Name", "Driver", "Labels", "Options", "CreatedAt", "Mountpoint"):
        assert after[0][key] == before[0][key], key


@contextlib.contextmanager
def somebody_in(host: Host) -> Iterator[None]:
    """Inside the block a process of the host is in the one volume that is mounted."""
    # Where the host sees it; `docker volume inspect` may tell where the plugin does.
    place = host.run("sh", "-c", "grep -m 1 '^/dev/loop' /proc/mounts").split()[1]
    with (host.root / "holder.log").open("ab") as output:
        holder = host.machine.spawn("sh", "-c", f"cd {place} && exec sleep 1000000", output=output)
    try:
        wait_for("somebody is in the volume", lambda: programs(holder.pid) == ["sleep"])
        yield
    finally:
        for pid in children(holder.pid):
            os.kill(pid, signal.SIGKILL)
        holder.wait()


def test_who_keeps_a_volume_busy_is_named(host: Host) -> None:
    create(host, "v1")
    host.idle("ann", *NONE, "-v", "v1:/data")
    with somebody_in(host):
        host.docker("rm", "-f", "ann")
        said = host.docker_error("volume", "rm", "v1")
        assert "in use by process" in said, said
        assert "(sleep)" in said, said
    host.docker("volume", "rm", "v1")
    assert is_nothing_mounted(host)


def test_a_busy_volume_is_let_go_of_by_force_and_is_the_same_for_the_next(host: Host) -> None:
    create(host, "v1")
    host.idle("ann", *NONE, "-v", "v1:/data")
    host.sh("ann", "echo kept >/data/file")
    with somebody_in(host):
        assert "mounted for caller" in pyvol_error(host, "detach", "--force", "v1")
        host.docker("rm", "-f", "ann")
        assert "in use by process" in pyvol_error(host, "detach", "v1")
        pyvol(host, "detach", "--force", "v1")
        assert is_nothing_mounted(host)
        assert host.once("cat /data/file", *NONE, "-v", "v1:/data") == "kept"
        assert "(sleep)" in host.docker_error("volume", "rm", "v1")
    host.docker("volume", "rm", "v1")
