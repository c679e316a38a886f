"""The socket and the state directory: taken when free or left behind, never from somebody who is alive."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pluginkit import listener
from pluginkit.errors import Conflict, KernelError

CLAIMANT = """
import sys, time
from pathlib import Path
from pluginkit import listener
listener.claim(Path(sys.argv[1]))
namespace = listener.claim_network_namespace(sys.argv[1])
print("claimed", flush=True)
time.sleep(600)
"""


@contextmanager
def bound(path: Path) -> Iterator[socket.socket]:
    with socket.socket(fileno=listener.bind(path)) as listening:
        yield listening


def leave_behind(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
    with socket.socket(socket.AF_UNIX, kind) as dead:
        dead.bind(str(path))


def test_the_socket_is_for_its_group_only_and_closed_on_exec(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on demand" / "pynet.sock"
    previous = os.umask(0)
    try:
        with bound(path) as listening:
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert not listening.get_inheritable()
        assert os.umask(0) == 0
    finally:
        os.umask(previous)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_file_without_a_listener_is_replaced(tmp_path: Path, kind: socket.SocketKind) -> None:
    path = tmp_path / "s"
    leave_behind(path, kind)
    with bound(path) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.listen()
        client.connect(str(path))


@pytest.mark.parametrize("backlog_is_full", [False, True])
def test_a_socket_that_somebody_listens_on_is_refused(tmp_path: Path, backlog_is_full: bool) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as living, socket.socket(socket.AF_UNIX) as waiting:
        living.bind(str(path))
        living.listen(0)
        if backlog_is_full:
            waiting.connect(str(path))
        with pytest.raises(Conflict, match="another process answers there"):
            listener.bind(path)
        assert path.is_socket()


def test_a_datagram_socket_in_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as living:
        living.bind(str(path))
        with pytest.raises(Conflict):
            listener.bind(path)
        assert path.is_socket()


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_text("precious"), lambda path: os.mkfifo(path)])
def test_what_is_no_socket_is_refused_and_kept(tmp_path: Path, make) -> None:
    path = tmp_path / "s"
    make(path)
    with pytest.raises(Conflict, match="not a socket"):
        listener.bind(path)
    assert path.exists()


@pytest.mark.parametrize("target", ["living", "nothing"])
def test_a_link_is_no_socket(tmp_path: Path, target: str) -> None:
    leave_behind(tmp_path / "living")
    (tmp_path / "s").symlink_to(target)
    with pytest.raises(Conflict, match="not a socket"):
        listener.bind(tmp_path / "s")


@pytest.mark.parametrize("name", ["x" * 200, "x" * 300], ids=["too long for a socket", "too long for a file"])
def test_a_path_that_cannot_be_bound_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(KernelError, match=f"cannot listen on {tmp_path}"):
        listener.bind(tmp_path / name)


def test_a_file_in_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with pytest.raises(KernelError, match=f"cannot listen on {tmp_path}"):
        listener.bind(tmp_path / "plain" / "s")


@pytest.fixture
def claimant(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has claimed `tmp_path`, and under its name the network namespace."""
    process = subprocess.Popen([sys.executable, "-c", CLAIMANT, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_claimed_directory_is_refused(claimant: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(Conflict, match=f"state directory {tmp_path}: another process"):
        listener.claim(tmp_path, timeout_s=0.3)


def test_a_claimed_namespace_is_refused_under_that_name_only(claimant: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="serves this network namespace"):
        listener.claim_network_namespace(str(tmp_path), timeout_s=0.3)
    listener.claim_network_namespace(f"{tmp_path}/another").close()
    claimant.kill()
    listener.claim_network_namespace(str(tmp_path)).close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_claim_ends_with_its_process(claimant: subprocess.Popen[str], tmp_path: Path, number: signal.Signals) -> None:
    claimant.send_signal(number)
    os.close(listener.claim(tmp_path))


def test_a_claim_outlives_no_program_that_the_plugin_started(tmp_path: Path) -> None:
    descriptor = listener.claim(tmp_path)
    child = subprocess.Popen(["sleep", "600"], close_fds=False)
    try:
        os.close(descriptor)
        os.close(listener.claim(tmp_path))
    finally:
        child.kill()
        child.wait()


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with pytest.raises(KernelError, match=f"state directory {tmp_path}/plain"):
        listener.claim(tmp_path / "plain")


def test_the_state_directory_is_made_and_private(tmp_path: Path) -> None:
    directory = tmp_path / "var" / "lib" / "pynet"
    os.close(listener.claim(directory))
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("pid", "descriptors", "passed"),
    [("mine", "1", True), ("mine", "2", True), ("mine", "0", False), ("1", "1", False), (None, None, False)],
)
def test_a_socket_is_passed_to_this_process_or_it_is_not(
    monkeypatch: pytest.MonkeyPatch, pid: str | None, descriptors: str | None, passed: bool
) -> None:
    for name, value in (("LISTEN_PID", str(os.getpid()) if pid == "mine" else pid), ("LISTEN_FDS", descriptors)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert listener.passed_by_systemd() is passed
