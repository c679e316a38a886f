"""How an engine and pyvol get along: what is asked and how often, behind whose back, and while there is no answer."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from integration.lab import calls, image, plugin, unixhttp
from integration.lab.daemon import Daemon
from integration.lab.host import Host, Program

NONE = ("--network", "none")
# What works on volumes. How often an engine asks for what is known (Get, List, Capabilities) is its own affair.
WORK = ("Create", "Mount", "Unmount", "Remove", "Path")


@pytest.fixture
def pyvol(host: Host) -> Program:
    return host.plugins["pyvol"]


def create(host: Host, name: str, *options: str, driver: str = "") -> None:
    host.docker("volume", "create", "-d", driver or host.drivers.volume, *options, name)


def inspect(host: Host, name: str) -> dict[str, Any]:
    """What the engine knows of the volume."""
    [found] = json.loads(host.docker("volume", "inspect", name))
    return dict(found)


def work(counted: Counter[str]) -> dict[str, int]:
    return {method: counted[method] for method in WORK if counted[method]}


def test_what_the_life_of_a_container_costs(host: Host, pyvol: Program) -> None:
    volume = (*NONE, "--volume-driver", host.drivers.volume, "-v")
    with calls.counted(pyvol) as named:
        host.once("echo kept >/data/file", *volume, "v1:/data")
    assert work(named) == {"Create": 1, "Mount": 1, "Unmount": 1}
    with calls.counted(pyvol) as again:
        host.once("cat /data/file", *volume, "v1:/data")
    assert work(again) == {"Mount": 1, "Unmount": 1}
    with calls.counted(pyvol) as copied_up:
        host.once("true", *volume, "v2:/seed")
    assert work(copied_up) == {"Create": 1, "Mount": 2, "Unmount": 2}
    with calls.counted(pyvol) as removed:
        host.docker("volume", "rm", "v1")
    assert work(removed) == {"Remove": 1}
    with calls.counted(pyvol) as anonymous:
        host.once("true", *volume, "/data")
    assert work(anonymous) == {"Create": 1, "Mount": 1, "Unmount": 1, "Remove": 1}


def test_what_two_containers_cost_that_share_a_volume(host: Host, pyvol: Program) -> None:
    with calls.counted(pyvol) as counted:
        host.idle("ann", *NONE, "--volume-driver", host.drivers.volume, "-v", "/data")
        host.once("true", *NONE, "--volumes-from", "ann")
        host.docker("rm", "-f", "-v", "ann")
    assert work(counted) == {"Create": 1, "Mount": 2, "Unmount": 2, "Remove": 1}


def test_what_a_look_costs(host: Host, pyvol: Program) -> None:
    create(host, "v1")
    with calls.counted(pyvol) as counted:
        create(host, "v1")
        host.docker("volume", "ls")
        host.docker("volume", "inspect", "v1")
        host.docker_error("volume", "inspect", "v2")
    assert work(counted) == {}, "nothing is made, mounted or asked for its place"
    assert counted["List"] == 1
    # An engine keeps what a legacy plugin can do; a managed one it asks each time.
    assert counted["Capabilities"] == 0 or host.drivers.form == "managed"


def test_a_copy_mounts_once_more_with_the_same_caller(host: Host, pyvol: Program) -> None:
    host.idle("ann", *NONE, "--volume-driver", host.drivers.volume, "-v", "v1:/data")
    [(caller, count)] = inspect(host, "v1")["Status"]["mounts"].items()
    assert (len(caller), count) == (64, 1)
    with calls.counted(pyvol) as copying:
        host.docker("cp", "ann:/etc/passwd", str(host.root / "passwd"))
    assert work(copying) == {"Mount": 1, "Unmount": 1}
    assert inspect(host, "v1")["Status"]["mounts"] == {caller: 1}
    with calls.counted(pyvol) as stopping:
        host.docker("rm", "-f", "ann")
    assert work(stopping) == {"Unmount": 1}
    assert inspect(host, "v1")["Status"]["mounts"] == {}


def test_a_mount_that_fails_is_not_unmounted(host: Host, pyvol: Program) -> None:
    create(host, "v1", *host.drivers.sized)
    image_file = host.root / "pyvol" / "volumes" / "v1" / "image.ext4"
    away = image_file.rename(host.root / "away")
    try:
        with calls.counted(pyvol) as counted:
            said = host.docker_error("run", "--rm", *NONE, "-v", "v1:/data", image.NAME, "true")
        assert "the volume's data is not where it was" in said
        assert set(work(counted)) == {"Mount"}
    finally:
        away.rename(image_file)
    host.docker("container", "prune", "-f")
    assert host.once("echo kept >/data/file; cat /data/file", *NONE, "-v", "v1:/data") == "kept"


def test_removed_behind_the_engines_back_it_can_be_made_anew(host: Host, pyvol: Program) -> None:
    create(host, "v1", "-o", "size=64M", "--label", "tier=gold")
    assert calls.call(pyvol, "Remove", Name="v1") == {}
    assert host.docker("volume", "ls", "-q") == ""
    create(host, "v1", "-o", "size=32M")
    found = inspect(host, "v1")
    assert (found["Options"], found["Labels"] or {}) == ({"size": "32M"}, {})
    assert found["Status"]["size_bytes"] == 32 << 20


def test_removed_behind_the_engines_back_it_leaves_its_name_to_others(host: Host, pyvol: Program) -> None:
    create(host, "v1", "-o", "size=64M")
    assert "must be unique" in host.docker_error("volume", "create", "-d", "local", "v1")
    assert calls.call(pyvol, "Remove", Name="v1") == {}
    host.docker("volume", "create", "-d", "local", "v1")
    found = inspect(host, "v1")
    assert (found["Driver"], found["Options"] or {}) == ("local", {})


def test_what_somebody_has_is_not_removed_behind_the_engines_back(host: Host, pyvol: Program) -> None:
    create(host, "v1", *host.drivers.sized)
    host.idle("ann", *NONE, "-v", "v1:/data")
    said = calls.call(pyvol, "Remove", Name="v1")["Err"]
    assert "cannot remove v1: it is mounted" in said
    host.sh("ann", "echo kept >/data/file")


@contextlib.contextmanager
def hidden(host: Host, name: str) -> Iterator[str]:
    """Inside the block a pyvol of that name answers at the socket that is yielded, where no engine looks for it."""
    socket = f"/run/hidden/{name}.sock"
    argv = [plugin.script("pyvol"), "serve", "--socket", socket, "--state-dir", str(host.root / name)]
    seen = host.machine.path(socket)
    env = {"PATH": host.kind.path()}
    program = Daemon(host.machine, name, argv, lambda: unixhttp.status(seen, "POST", "/Plugin.Activate") == 200, env)
    try:
        program.start()
        yield socket
    finally:
        program.kill()


@pytest.mark.long
def test_a_driver_that_is_down_is_in_nobodys_way_and_found_when_it_comes(apart: Host) -> None:
    """One that the engine finds no trace of, and one of which it knows the address, where nobody answers."""
    apart.run("sh", "-c", "mkdir -p /etc/docker/plugins; echo unix:///run/far.sock >/etc/docker/plugins/far.spec")
    with hidden(apart, "near") as near, hidden(apart, "far") as far, ThreadPoolExecutor() as threads:
        waiting = {
            name: threads.submit(create, apart, f"{name}1", *apart.drivers.sized, driver=name)
            for name in ("near", "far")
        }
        try:
            create(apart, "v1", *apart.drivers.sized)
            assert not [name for name, job in waiting.items() if job.done()], "they are waited for"
        finally:
            # An engine gives up after 15 seconds: they come all at once, whatever else the machine has to do.
            apart.run("mv", near, f"{plugin.SOCKETS}/near.sock")
            apart.run("mv", far, "/run/far.sock")
        for name, job in waiting.items():
            job.result()
            assert apart.once("echo kept >/data/file; cat /data/file", *NONE, "-v", f"{name}1:/data") == "kept"
            assert inspect(apart, f"{name}1")["Driver"] == name
            apart.docker("volume", "rm", f"{name}1")
