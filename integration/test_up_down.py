"""The two commands with which a stranger starts and stops everything, on a host that has nothing yet."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.lab import snapshot, unixhttp
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.namespace import CommandFailed

PYRUN = "unix:///run/pyrun/pyrun.sock"
SCRIPTS = Path(__file__).parent.parent / "scripts"
ENVIRONMENT = {"VENV": str(Path(sys.executable).parent.parent)}
SHOWN = (
    "+ docker network create -d pynet pydemo-net",
    "+ docker volume create -d pyvol -o size=64M pydemo-vol",
    "hello from a container on a pynet network",
    "No space left on device",
    "written by the first container",
)


def up(host: Host, **variables: str) -> str:
    return host.machine.run(str(SCRIPTS / "up"), env={**environment(host), **variables}, timeout_s=120)


def down(host: Host, *options: str, **variables: str) -> str:
    return host.machine.run(str(SCRIPTS / "down"), *options, env={**environment(host), **variables}, timeout_s=120)


def environment(host: Host) -> dict[str, str]:
    """What pyrun is told, so that nothing of the lab is in its way."""
    pool = "base=10.201.0.0/16,size=24"
    return {**ENVIRONMENT, "PYRUN_CGROUP": host.cgroup, "PYRUN_DEFAULT_ADDRESS_POOL": pool}


def programs(host: Host) -> set[str]:
    return set(snapshot.take(host.machine).programs)


@pytest.fixture
def empty(lab: Lab) -> Iterator[Host]:
    """A host on which nothing runs, with folders of its own where the programs keep their state.

    Its docker CLI speaks to pyrun, as a user's does who has done what `up` says at its end.
    """
    with lab.own_host() as host:
        for name in ("pyrun", "pynet", "pyvol"):
            folder = host.root / f"state-{name}"
            folder.mkdir()
            host.run("sh", "-c", f"mkdir -p /var/lib/{name} && mount --bind {folder} /var/lib/{name}")
        command = host.root / "docker"
        command.write_text(f'#!/bin/sh\nexec {host.cli} --host {PYRUN} "$@"\n')
        command.chmod(0o755)
        host.cli = str(command)
        yield host


def test_up_twice_down_and_up_again(empty: Host) -> None:
    host = empty
    said = up(host)
    for line in SHOWN:
        assert line in said
    assert host.docker("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}") == ""
    assert host.docker("ps", "-aq") + host.docker("volume", "ls", "-q") + host.docker("images", "-q") == ""
    assert "conmon" not in programs(host), "the demo has taken its containers along"

    # The user's own objects, made by hand, are not touched by a second `up` and its demo.
    host.import_image()
    host.docker("network", "create", "-d", "pynet", "--subnet", "10.61.0.0/24", "n1")
    host.docker("volume", "create", "-d", "pyvol", "-o", "size=64M", "v1")
    host.web("mine", "--restart", "always", "--stop-timeout", "1", "--network", "n1", "-p", "8080:80", "-v", "v1:/data")
    host.sh("mine", "echo kept >/data/file")
    before = snapshot.take(host.machine)
    host.run("sh", "-c", "kill -KILL $(cat /run/pynet/pynet.pid)")  # a second `up` brings back what has died
    socket = host.machine.path("/run/docker/plugins/pynet.sock")
    wait_for("pynet is gone", lambda: unixhttp.status(socket, "POST", "/Plugin.Activate") == 0)
    said = up(host)
    assert "pynet: started" in said
    assert "pyvol: answers already" in said
    assert "engine: taking the one that answers" in said
    assert all(line in said for line in SHOWN)
    assert host.changes_since(before) == []

    with pytest.raises(CommandFailed, match="n1 v1"):
        down(host, "--purge")
    assert host.ask("http", host.address, 8080, "/") == "lab", "a refused purge stops nothing"

    down(host)
    wait_for("everything has ended", lambda: programs(host) == {"python"})
    assert "/dev/loop" not in host.run("cat", "/proc/mounts")
    assert host.run("ls", "/run/docker/plugins") == ""

    said = up(host)
    assert all(line in said for line in SHOWN)
    wait_for("the user's container is back", lambda: host.sh("mine", "cat /data/file") == "kept")
    assert host.ask("http", host.address, 8080, "/") == "lab"

    # The image of the tutorials, for which no registry is asked.
    host.run("env", f"DOCKER_HOST={PYRUN}", str(SCRIPTS / "demo"), "image", "busybox")
    assert host.docker("run", "--rm", "--network", "none", "busybox", "echo", "hello") == "hello"
    host.docker("rmi", "busybox")

    host.remove_all()
    down(host, "--purge")
    assert programs(host) == {"python"}
    assert not [link for link in snapshot.take(host.machine).links if link.startswith("pn")]
    assert host.run("find", "/var/lib/pynet", "/var/lib/pyvol", "/var/lib/pyrun", "-mindepth", "1") == ""


def test_what_is_there_already_is_taken_and_left_alone(host: Host) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    host.web("mine", "--network", "n1", "-p", "8080:80", "-v", "v1:/data", "--volume-driver", host.drivers.volume)
    before = snapshot.take(host.machine)
    said = up(host)
    assert "pynet: answers already" in said
    assert "pyvol: answers already" in said
    assert "engine: taking the one that answers" in said
    assert all(line in said for line in SHOWN)
    assert host.changes_since(before) == []
    said = down(host)
    assert "engine: not started by 'up': left alone" in said
    assert host.changes_since(before) == []
    assert host.ask("http", host.address, 8080, "/") == "lab"


def test_without_the_docker_cli_pyruns_own_commands_do(empty: Host) -> None:
    path = f"{empty.root}/bin"
    empty.run("sh", "-c", f"mkdir {path}; cd {path}; ln -s /usr/sbin/* /usr/bin/* . ; rm docker")
    said = up(empty, PATH=path)
    for line in SHOWN:
        assert line.replace("+ docker", "+ pyrun") in said
    assert "There is no docker CLI here" in said
    pyrun = str(Path(sys.executable).with_name("pyrun"))
    empty.run(pyrun, "network", "create", "-d", "pynet", "n1")
    with pytest.raises(CommandFailed, match="pyrun network rm"):
        down(empty, "--purge", PATH=path)
    empty.run(pyrun, "network", "rm", "n1")
    down(empty, "--purge", PATH=path)
    assert programs(empty) == {"python"}


def test_an_engine_on_another_machine_is_refused(empty: Host) -> None:
    elsewhere = {**ENVIRONMENT, "DOCKER_HOST": "tcp://10.90.0.1:2375"}
    with pytest.raises(CommandFailed, match="Unset DOCKER_HOST"):
        empty.machine.run(str(SCRIPTS / "up"), env=elsewhere)
    assert snapshot.take(empty.machine).programs == ("python",)
