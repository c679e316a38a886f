"""A tiny plugin as a real process, and the ways to talk to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.serving import PATIENCE_S, exchange, until


class PluginProcess:
    """`tiny_plugin.py` serving from `directory`. stderr goes to a file, so that a full pipe cannot stop it."""

    def __init__(self, directory: Path, command: tuple[str, ...] = (), **environment: str) -> None:
        self.socket = directory / "tiny.sock"
        self._log = directory / "stderr"
        program = [*command, sys.executable, str(Path(__file__).with_name("tiny_plugin.py")), str(directory)]
        with self._log.open("ab") as stderr:
            self.process = subprocess.Popen(program, stderr=stderr, env={**os.environ, **environment})

    def log(self) -> str:
        """Return everything said so far by every process that served from this directory."""
        return self._log.read_text()

    def call(self, method: str, request: object = None) -> dict[str, Any]:
        """Return the answer to one request, which must be a success."""
        status, answer = self.raw("POST", method, b"" if request is None else json.dumps(request).encode())
        assert status == 200, answer
        return answer

    def raw(self, verb: str, method: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Return status and object of the answer to anything."""
        return exchange(self.socket, verb, method, body)

    def status(self) -> dict[str, Any]:
        """Return the worker's view of itself."""
        return self.call("Tiny.Status")

    def answers(self) -> bool:
        """Tell whether it answers."""
        try:
            self.status()
        except OSError:
            return False
        return True

    def wait_until_it_answers(self) -> PluginProcess:
        """It answers; return it."""
        until(lambda: self.answers() or self.process.poll() is not None, "an answer")
        assert self.process.poll() is None, self.log()
        return self

    def connect(self) -> socket.socket:
        """Return a new connection on which nothing was sent yet."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE_S)
        client.connect(str(self.socket))
        return client

    def end(self) -> None:
        """No process of it is left."""
        worker = None
        if self.process.poll() is None:
            with contextlib.suppress(OSError, AssertionError, ValueError):
                worker = self.status()["Pid"]
            self.process.kill()
        self.process.wait()
        if worker is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


def exists(pid: int) -> bool:
    """Tell whether process `pid` is alive."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
