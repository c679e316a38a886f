"""`pyvol serve` as a process of its own, and an engine that talks to it, as another."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.unit.plugin_process import UnixConnection, until

PYVOL = Path(sys.executable).with_name("pyvol")

ENGINE = """
import json, sys
from pathlib import Path
from tests.unit.plugin_process import UnixConnection
for line in sys.stdin:
    method, body = line.split(" ", 1)
    connection = UnixConnection(Path(sys.argv[1]))
    connection.request("POST", "/VolumeDriver." + method, body)
    answer = connection.getresponse()
    print(answer.status, answer.read().decode(), flush=True)
    connection.close()
"""


def exchange(socket: Path, verb: str, method: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Return status and object of the answer to anything."""
    connection = UnixConnection(socket)
    try:
        connection.request(verb, f"/{method}", body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def serve_argv(socket: Path, state_dir: Path) -> list[str]:
    """Return the command that serves on `socket`."""
    return [str(PYVOL), "serve", "--socket", str(socket), "--state-dir", str(state_dir)]


class Service:
    """A plugin on directories below `directory`. The process that calls `call` is its engine."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.socket = directory / "pyvol.sock"
        self.state_dir = directory / "state"
        self.mount_root = self.state_dir / "mnt"
        self.log = directory / "log"
        self._options = options
        self.start()

    def start(self) -> None:
        """The process runs and answers."""
        argv = [*serve_argv(self.socket, self.state_dir), *self._options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, stderr=log, start_new_session=True)
        started = time.monotonic()
        until(lambda: self._answers() or self.process.poll() is not None, "an answer")
        self.start_s = time.monotonic() - started
        assert self.process.poll() is None, self.log.read_text()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return exchange(self.socket, "POST", "Plugin.Activate", b"")[0] == 200
        return False

    def kill(self) -> None:
        """Every process of it was killed."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """It was asked to end and has ended; return its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=30)

    def ask(self, method: str, request: object = None) -> tuple[int, dict[str, Any]]:
        """Return status and object of the answer to a method of VolumeDriver."""
        body = b"" if request is None else json.dumps(request).encode()
        return exchange(self.socket, "POST", f"VolumeDriver.{method}", body)

    def call(self, method: str, **request: object) -> dict[str, Any]:
        """Return the answer to a method of VolumeDriver, which must be a success."""
        status, answer = self.ask(method, request)
        assert status == 200, answer
        return answer

    def status(self, name: str) -> dict[str, Any]:
        """Return what Get says of the volume."""
        status: dict[str, Any] = self.call("Get", Name=name)["Volume"]["Status"]
        return status


class Engine:
    """Another process that calls the plugin, and can be killed."""

    def __init__(self, service: Service) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", ENGINE, service.socket],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def call(self, method: str, **request: object) -> None:
        """The method of VolumeDriver was answered with success."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{method} {json.dumps(request)}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer.startswith("200 "), answer

    def kill(self) -> None:
        """It was killed."""
        self._process.kill()
        self._process.communicate()
