"""A long-running program on a lab machine."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from integration.lab.deadline import wait_for
from integration.lab.namespace import Namespace, children


class Daemon:
    """A program that can be started, stopped and killed again and again; its output goes to one log file."""

    def __init__(self, machine: Namespace, name: str, argv: list[str], answers: Callable[[], bool],
                 env: Mapping[str, str] | None = None) -> None:  # fmt: skip
        self.machine, self.name, self.argv, self.answers, self.env = machine, name, argv, answers, env
        self.log: Path = machine.root / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def runs(self) -> bool:
        """True while the started program has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The program's process id, seen from outside the machine."""
        assert self._process is not None, f"{self.name} was never started"
        # nsenter forks to enter the process namespace: the program is its only child.
        return wait_for(f"{self.name} forked", lambda: children(self._process.pid if self._process else 0))[0]

    def start(self, timeout_s: float = 30.0, attempts: int = 1) -> None:
        """It answers.

        Raises: AssertionError with the end of its log, if it ended or stayed silent in all attempts.
        """
        assert not self.runs(), f"{self.name} already runs"
        for left in reversed(range(attempts)):
            with self.log.open("ab") as output:
                self._process = self.machine.spawn(*self.argv, output=output, env=self.env)
            with contextlib.suppress(TimeoutError):
                wait_for(f"{self.name} answers", lambda: not self.runs() or self.answers(), timeout_s)
            if self.runs() and self.answers():
                return
            self.kill()
            if not left:
                raise AssertionError(f"{self.name} did not come up; end of its log:\n{self.log_tail()}")

    def signal(self, number: signal.Signals) -> None:
        """The program itself (not its children) was sent the signal."""
        os.kill(self.pid, number)

    def stop(self, timeout_s: float = 30.0) -> int:
        """It has ended after a SIGTERM; its exit status is returned."""
        assert self._process is not None, f"{self.name} was never started"
        self.signal(signal.SIGTERM)
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """It and its whole process group are dead by SIGKILL; harmless when nothing runs."""
        if self._process is not None:
            programs = members(self._process.pid)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=10)
            # Dying takes a moment, and who starts again too early finds "itself" still running.
            wait_for(f"{self.name} is gone", lambda: not any(program.exists() for program in programs))

    def log_tail(self, lines: int = 60) -> str:
        """The last lines of the log, without the chatter of containerd's shims, or a word that there are none."""
        if not self.log.exists():
            return "(no log)"
        told = self.log.read_text(errors="replace").splitlines()
        return "\n".join([line for line in told if " level=info " not in line][-lines:])


def members(group: int) -> list[Path]:
    """The /proc entries of the processes in a process group."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(int(entry.name)) == group:
                found.append(entry)
    return found
