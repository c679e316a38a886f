"""`pynet serve` as a process in the network namespace of the thread that starts it."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.unit.plugin_process import UnixConnection, until


class Cut(Exception):
    """The connection ended without an answer."""


class Serving:
    """One state directory, and the process that serves from it, if one does."""

    def __init__(self, directory: Path, firewall: str) -> None:
        self.state_dir = directory / "state"
        self._socket, self._log = directory / "pynet.sock", directory / "pynet.log"
        self._firewall = firewall
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """It answers."""
        program = Path(sys.executable).with_name("pynet")
        places = ("--socket", str(self._socket), "--state-dir", str(self.state_dir))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [program, "serve", *places, "--firewall", self._firewall, "--reconcile-every", "3600"],
                stderr=log,
                start_new_session=True,
            )
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        until(lambda: self.answers() or self._ended(), "pynet answers")
        assert not self._ended(), self.log()

    def answers(self) -> bool:
        try:
            return self.post("Activate", None, "Plugin")[0] == 200
        except (Cut, OSError):
            return False

    def kill(self, whom: str) -> None:
        """The "arbiter", its "worker" or "both" have got SIGKILL; it answers again if the arbiter can see to that."""
        assert self._process is not None
        pid = self._process.pid
        workers = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for victim in {"arbiter": [pid], "worker": workers, "both": [pid, *workers]}[whom]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        if whom != "worker":
            self._process.wait()

    def is_dead(self) -> bool:
        return self._process is None or self._ended()

    def stop(self) -> None:
        """It has ended after a SIGTERM."""
        if self._process is not None and not self._ended():
            self._process.terminate()
            self._process.wait(30)

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def log(self) -> str:
        return self._log.read_text()

    def post(self, method: str, body: object, of: str = "NetworkDriver") -> tuple[int, dict[str, Any]]:
        """Return status and answer.

        Raises: Cut, OSError: nobody answered.
        """
        connection = UnixConnection(self._socket)
        try:
            connection.request("POST", f"/{of}.{method}", b"" if body is None else json.dumps(body).encode())
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (http.client.HTTPException, json.JSONDecodeError) as exc:
            raise Cut from exc
        finally:
            connection.close()
