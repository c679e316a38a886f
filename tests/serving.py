"""`pynet serve` or `pyvol serve` as a process, where the test's thread is: in its network and mount namespace."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PATIENCE_S = 30.0
# The machine's own engine knows nothing of the networks of a test.
ALONE = {"PYNET_ENGINES": "/nonexistent"}
# Even a test run that is killed leaves no process behind.
MORTAL = ("setpriv", "--pdeathsig", "KILL")
# Who runs the tests in the background makes them, and all that they start, deaf to Ctrl-C.
INTERRUPTIBLE = ("env", "--default-signal=INT")


class Cut(ConnectionError):
    """The connection ended without an answer."""


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a Unix socket."""

    def __init__(self, path: Path, patience_s: float = PATIENCE_S) -> None:
        super().__init__("plugin", timeout=patience_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def exchange(
    path: Path, verb: str, method: str, body: bytes, patience_s: float = PATIENCE_S
) -> tuple[int, dict[str, Any]]:
    """Return status and object of the answer to anything.

    Raises: OSError: nobody answered; Cut: nor said why.
    """
    connection = UnixConnection(path, patience_s)
    try:
        connection.request(verb, f"/{method}", body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (http.client.HTTPException, json.JSONDecodeError) as exc:
        raise Cut from exc
    finally:
        connection.close()


def until(condition: Callable[[], bool], what: str) -> None:
    """`condition` holds; fails when it does not come true."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.02)


def serve_argv(program: str, socket: Path, state_dir: Path) -> list[str]:
    """Return the command by which `program`, which is pynet or pyvol, serves on `socket`."""
    path = Path(sys.executable).with_name(program)
    return [str(path), "serve", "--socket", str(socket), "--state-dir", str(state_dir)]


def _lives(pid: int) -> bool:
    # One that nobody waits for is still listed, and its first thread may have ended before the others.
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        return state not in "ZX" or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except OSError:
        return False


class Serving:
    """One state directory below `directory`, and the process that serves from it, if one does."""

    def __init__(self, program: str, directory: Path, *options: str, env: Mapping[str, str] = ALONE) -> None:
        self.socket = directory / f"{program}.sock"
        self.state_dir = directory / "state"
        self.argv = [*MORTAL, *serve_argv(program, self.socket, self.state_dir), *options]
        self.env = os.environ | ALONE | env
        self._log = directory / f"{program}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The arbiter that was started last."""
        assert self._process is not None
        return self._process

    def start(self) -> None:
        """It answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self.argv, stderr=log, start_new_session=True, env=self.env)
        self.wait_until_it_answers()

    def refused(self) -> str:
        """It did not start; return what it said."""
        done = subprocess.run(self.argv, capture_output=True, text=True, timeout=60, check=False, env=self.env)
        assert done.returncode == 1, done
        return done.stderr

    def wait_until_it_answers(self) -> None:
        until(lambda: self.answers() or self.is_dead(), "an answer")
        assert not self.is_dead(), self.log()

    def answers(self) -> bool:
        try:
            return exchange(self.socket, "POST", "Plugin.Activate", b"")[0] == 200
        except OSError:
            return False

    def kill(self, whom: str = "both") -> None:
        """The "arbiter", its "worker" or "both" have got SIGKILL; it answers again if the arbiter can see to that."""
        pid = self.process.pid
        workers = []
        if self.process.poll() is None:
            workers = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for victim in {"arbiter": [pid], "worker": workers, "both": [pid, *workers]}[whom]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        if whom != "worker":
            self.process.wait()
        # It has its sockets until then.
        until(lambda: not any(_lives(pid) for pid in workers if whom != "arbiter"), "the worker has ended")

    def is_dead(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def stop(self) -> int:
        """It has ended after a SIGTERM; return its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def log(self) -> str:
        """Return everything said so far by every process that served from this directory."""
        return self._log.read_text()

    def ask(self, method: str, request: object = None, patience_s: float = PATIENCE_S) -> tuple[int, dict[str, Any]]:
        """Return status and object of the answer to a method, such as NetworkDriver.Join.

        Raises: OSError: nobody answered; Cut: nor said why.
        """
        body = b"" if request is None else json.dumps(request).encode()
        return exchange(self.socket, "POST", method, body, patience_s)
