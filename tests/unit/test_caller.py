"""Who calls: told apart by process, and by incarnation of a process."""

from __future__ import annotations

import contextvars
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pluginkit import caller

CLIENT = """
import socket, sys
for _ in range(2):
    client = socket.socket(socket.AF_UNIX)
    client.connect(sys.argv[1])
    client.sendall(b"x")
    client.recv(1)
"""


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        server.settimeout(20)
        yield server


def seen(connection: socket.socket | None) -> str:
    """Return `current()` in a context of its own, in which `connection` was remembered."""

    def ask() -> str:
        caller.remember(connection)
        return caller.current()

    return contextvars.copy_context().run(ask)


def callers_of(server: socket.socket) -> list[str]:
    """Return the callers of two connections of one new process."""
    client = subprocess.Popen([sys.executable, "-c", CLIENT, server.getsockname()])
    found = []
    for _ in range(2):
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1) == b"x"
            found.append(seen(connection))
            connection.sendall(b"y")
    assert client.wait(20) == 0
    return found


def test_one_process_is_one_caller_and_another_is_another(listening: socket.socket) -> None:
    first, again = callers_of(listening)
    other, _ = callers_of(listening)
    assert first == again != other
    assert first


def test_a_caller_is_running_until_it_ends_and_its_process_id_alone_says_nothing() -> None:
    child = subprocess.Popen(["sleep", "600"])
    try:
        start_time = Path(f"/proc/{child.pid}/stat").read_text().split()[21]
        assert caller.is_running(f"{child.pid}@{start_time}")
        assert not caller.is_running(f"{child.pid}@{int(start_time) - 1}")
        child.kill()
        # Not yet waited for, it is a zombie: its process ID is taken, but it calls nobody any more.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not caller.is_running(f"{child.pid}@{start_time}")
    finally:
        child.kill()
        child.wait()
    assert not caller.is_running(f"{child.pid}@{start_time}")
    assert not caller.is_running("")


def test_this_process_is_itself() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert seen(ours) == seen(theirs)
        assert seen(ours).startswith(f"{os.getpid()}@")


def test_a_command_name_with_spaces_and_parentheses_is_no_obstacle(listening: socket.socket, tmp_path: Path) -> None:
    program = tmp_path / ") R 1 (x"
    program.symlink_to(sys.executable)
    environment = {**os.environ, "PYTHONHOME": sys.base_prefix}
    client = subprocess.Popen([program, "-c", CLIENT, listening.getsockname()], env=environment)
    for _ in range(2):
        connection, _ = listening.accept()
        with connection:
            connection.recv(1)
            pid, _, start_time = seen(connection).partition("@")
            connection.sendall(b"y")
            assert int(pid) == client.pid
            assert int(start_time) > 1000
    assert client.wait(20) == 0


def test_a_caller_that_is_gone_is_not_known(listening: socket.socket) -> None:
    script = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, listening.getsockname()], check=True)
    connection, _ = listening.accept()
    with connection:
        assert seen(connection) == ""


def test_a_caller_over_tcp_is_not_known() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert seen(client) == ""


def test_nobody_is_remembered_from_the_request_before() -> None:
    def two_requests() -> str:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            caller.remember(ours)
        caller.remember(None)
        return caller.current()

    assert contextvars.copy_context().run(two_requests) == ""
