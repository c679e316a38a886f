"""`pyrun run|ps|…`: what the docker CLI does, without it."""

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator

import pytest

from integration.lab import plugin
from integration.lab.namespace import children
from runtime.client import words
from tests.runtime.machine import Machine
from tests.runtime.real_plugins import plugins
from tests.runtime.test_containers import eventually
from tests.serving import INTERRUPTIBLE

__all__ = ["plugins"]
NONE = ("--network", "none")


def pyrun(machine: Machine, *arguments: str, stdin: str = "", status: int = 0) -> str:
    """The command has ended with the status; what it printed is returned, its complaints too."""
    done = machine.namespace.try_run(plugin.script("pyrun"), *arguments, stdin=stdin)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextlib.contextmanager
def started(machine: Machine, *arguments: str, terminal: int | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """The command runs, with a terminal as its streams or with pipes; inside the block."""
    streams = (subprocess.DEVNULL, subprocess.PIPE) if terminal is None else (terminal, terminal)
    with subprocess.Popen(
        machine.namespace.entering(*INTERRUPTIBLE, plugin.script("pyrun"), *arguments),
        stdin=streams[0], stdout=streams[1], stderr=subprocess.STDOUT, env=machine.namespace.environment,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (("lab", "sh", "-c", "exit 3"), 3, ""),
        (("lab", "nosuch"), 127, "nosuch"),
        (("lab", "/etc"), 126, "permission denied"),
        (("nosuch", "true"), 125, "nosuch"),
        (("-p", "x:80", "lab", "true"), 125, "x:80"),
    ],
)
def test_exit_statuses_are_dockers(machine: Machine, arguments: tuple[str, ...], status: int, word: str) -> None:
    assert word in pyrun(machine, "run", "--rm", *NONE, *arguments, status=status)
    assert machine.docker("ps", "-aq") == ""


def test_streams_are_kept_apart_and_input_arrives(machine: Machine) -> None:
    command = ("run", "-i", "--rm", *NONE, "-e", "WHO=me", "lab", "sh", "-c", "cat; echo $WHO; echo no >&2; exit 4")
    done = machine.namespace.try_run(plugin.script("pyrun"), *command, stdin="typed\n")
    assert (done.stdout, done.stderr, done.returncode) == ("typed\nme\n", "no\n", 4)


def test_ctrl_c_is_the_containers(machine: Machine) -> None:
    caught = "trap 'echo caught; exit 7' INT; echo up; while :; do sleep 0.1; done"
    with started(machine, "run", "--rm", *NONE, "lab", "sh", "-c", caught) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        os.kill(children(process.pid)[0], signal.SIGINT)
        assert process.stdout.read() == b"caught\n"
        assert process.wait(20) == 7
    with started(machine, "run", "--rm", "--name", "killed", *NONE, "lab", "sleep", "99") as process:
        eventually(lambda: machine.docker("ps", "-q", "--filter", "name=killed") != "")
        machine.docker("kill", "killed")
        assert process.wait(20) == 128 + signal.SIGKILL
    machine.docker("run", "-d", "--name", "talks", *NONE, "lab", "sh", "-c", "echo one; sleep 99")
    with started(machine, "logs", "-f", "talks") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"one\n"
        os.kill(children(process.pid)[0], signal.SIGINT)
        assert process.wait(20) == 130
    assert pyrun(machine, "rm", "-f", "talks") == "talks\n"


def test_a_terminal_has_its_size_and_its_keys(machine: Machine) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    sized = "while [ \"$(stty size)\" != '33 77' ]; do sleep 0.1; done; echo sized"
    command = f"trap 'echo caught' INT; {sized}; while :; do sleep 0.1; done"
    before = termios.tcgetattr(theirs)
    try:
        with started(
            machine, "run", "-it", "--name", "typed", *NONE, "lab", "sh", "-c", command, terminal=theirs
        ) as it:
            shown = b""
            while b"sized" not in shown:
                shown += os.read(ours, 1024)
            os.write(ours, b"\x03")
            while b"caught" not in shown:
                shown += os.read(ours, 1024)
            os.write(ours, b"\x10\x11")
            assert it.wait(20) == 0
        assert termios.tcgetattr(theirs) == before
        assert pyrun(machine, "inspect", "--format", "{{.State.Status}}", "typed") == "running\n"
    finally:
        os.close(ours)
        os.close(theirs)
    pyrun(machine, "rm", "-f", "typed")


@pytest.mark.usefixtures("plugins")
def test_all_objects_from_create_to_rm(machine: Machine) -> None:
    assert len(pyrun(machine, "network", "create", "-d", "pynet", "--subnet", "10.79.0.0/24", "n").strip()) == 64
    assert pyrun(machine, "volume", "create", "-d", "pyvol", "-o", "size=32M", "v") == "v\n"
    web = ("--name", "web", "--network", "n", "-p", "127.0.0.1:8085:80", "-v", "v:/data")
    key = pyrun(machine, "run", "-d", *web, "lab", "sh", "-c", "echo up; sleep 99").strip()
    line = pyrun(machine, "ps", "--filter", "name=web").splitlines()[1]
    assert line.startswith(key[:12])
    assert "127.0.0.1:8085->80/tcp" in line
    assert pyrun(machine, "exec", "web", "sh", "-c", "echo kept >/data/f; exit 5", status=5) == ""
    assert pyrun(machine, "exec", "-i", "web", "cat", stdin="through") == "through"
    eventually(lambda: pyrun(machine, "logs", "web") == "up\n")
    assert pyrun(machine, "stop", "-t", "0", "web", "nosuch", status=1).startswith("web\npyrun: ")
    assert pyrun(machine, "ps", "-q") == ""
    assert pyrun(machine, "ps", "-a", "--format", "{{.Names}} {{.Image}}") == "web lab\n"
    assert "volume is in use" in pyrun(machine, "volume", "rm", "v", status=1)
    pyrun(machine, "start", "web")
    assert pyrun(machine, "rm", "-f", "web") == "web\n"
    [network] = json.loads(pyrun(machine, "network", "inspect", "n"))
    assert (network["Driver"], network["Containers"]) == ("pynet", {})
    assert pyrun(machine, "run", "--rm", *NONE, "-v", "v:/data", "lab", "cat", "/data/f") == "kept\n"
    for kind, name in (("network", "n"), ("volume", "v")):
        assert pyrun(machine, kind, "ls", "--filter", f"name=^{name}$", "--format", "{{.Name}}") == f"{name}\n"
        assert pyrun(machine, kind, "rm", name) == f"{name}\n"


def test_images_come_and_go(machine: Machine) -> None:
    archive = str(machine.root / "lab.tar")
    key = pyrun(machine, "import", archive, "twin:one").strip().removeprefix("sha256:")
    assert pyrun(machine, "images", "-q", "twin:one") == f"{key[:12]}\n"
    assert "twin" in pyrun(machine, "images")
    pyrun(machine, "rmi", "twin:one")
    assert pyrun(machine, "images", "-q", "twin:one") == ""
    assert "cannot" in pyrun(machine, "load", "-i", archive, status=1)


def test_without_an_engine_the_way_out_is_told(machine: Machine, tmp_path: os.PathLike[str]) -> None:
    for host, word in ((f"unix://{tmp_path}/none", "pyrun serve"), ("tcp://10.0.0.1:2375", "unix://PATH")):
        done = machine.namespace.try_run(plugin.script("pyrun"), "ps", env={"DOCKER_HOST": host})
        assert done.returncode == 1
        assert word in done.stderr


def test_ports_and_templates() -> None:
    assert words.port_bindings(["80", "8080:80/udp", "[::1]:1:2", "127.0.0.1::3"]) == {
        "80/tcp": [{"HostIp": "", "HostPort": ""}],
        "80/udp": [{"HostIp": "", "HostPort": "8080"}],
        "2/tcp": [{"HostIp": "::1", "HostPort": "1"}],
        "3/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
    }
    assert words.fill_in("{{.A.B}} {{json .A}}", {"A": {"B": "b"}}) == 'b {"B": "b"}'
    for template in ("{{range .A}}", "{{.C}}"):
        with pytest.raises(words.Misunderstood):
            words.fill_in(template, {"A": ""})
