"""One of our plugins as a managed plugin: the engine installs, starts, stops and restarts it.

It offers what `daemon.Daemon` offers, so that a test need not know in which form the plugin runs. Where that cannot be,
above all because a managed plugin that dies is back at once, `differences.py` says so.
"""

import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from integration.lab import unixhttp
from integration.lab.daemon import Daemon
from integration.lab.deadline import wait_for
from integration.lab.machine import CGROUPS
from integration.lab.namespace import CommandFailed, Namespace
from integration.lab.plugin import SOCKETS

TAG = "latest"


def built(name: str) -> Path:
    """The folder for `docker plugin create` that `make plugins` has made.

    Raises: LookupError when it is not there.
    """
    folder = Path(os.environ.get("PYLAB_PLUGINS", Path(__file__).parents[2] / "build" / "plugins")) / name
    if not (folder / "rootfs").is_dir():
        raise LookupError(f"cannot find the managed plugin in {folder}: run `make plugins` first")
    return folder


def parent_of(pid: int) -> int:
    """The parent's process id; 0 when the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


class ManagedPlugin:
    """A plugin of the engine on one machine; its log is the engine's."""

    def __init__(self, machine: Namespace, name: str, docker: Callable[..., str], engine: Daemon,
                 env: Mapping[str, str]) -> None:  # fmt: skip
        """docker: runs the CLI on the machine. env: the settings with which it is installed."""
        self.machine, self.name, self.engine, self.env = machine, name, engine, env
        self.log = engine.log
        self._docker = docker

    @property
    def state(self) -> Path:
        """The folder with its records and data."""
        return self.machine.root / self.name

    @property
    def ident(self) -> str:
        """The engine's ID of it, or nothing where it is not installed."""
        found = (plugin["Id"] for plugin in self._installed() if plugin["Name"] == f"{self.name}:{TAG}")
        return next(found, "")

    def _installed(self) -> Iterator[dict[str, str]]:
        """What the engine, which need not run, remembers of its plugins: dockerd in files, pyrun in its records."""
        for described in self.machine.root.glob("data/plugins/*/config.json"):
            with contextlib.suppress(OSError, ValueError):  # written in this moment
                yield json.loads(described.read_text())["plugin"]
        records = self.machine.root / "data" / "pyrun.db"
        if records.exists():
            with contextlib.closing(sqlite3.connect(f"file:{records}?mode=ro", uri=True)) as database:
                for (content,) in database.execute("SELECT content FROM record WHERE kind = 'plugin'"):
                    yield json.loads(content)

    def install(self) -> None:
        """The engine has it, disabled, with the settings of this machine."""
        self.state.mkdir(exist_ok=True)
        self._docker("plugin", "create", self.name, str(built(self.name)), timeout_s=180)
        settings = {"state.source": str(self.state), **self.env}
        self._docker("plugin", "set", self.name, *(f"{name}={value}" for name, value in settings.items()))

    def remove(self) -> None:
        """The engine has it no more; its state is where it was."""
        self._docker("plugin", "rm", "-f", self.name)

    def processes(self) -> list[int]:
        """The process ids of all its processes, the first one first, seen from outside the machine."""
        ident = self.ident
        if not ident:
            return []
        found: set[int] = set()
        # Others' cgroups come and go meanwhile, which a walk passes over and a glob does not.
        for parent, folders, _ in os.walk(CGROUPS):
            if ident in folders:
                with contextlib.suppress(OSError):  # it goes with the last process
                    found |= {int(word) for word in Path(parent, ident, "cgroup.procs").read_text().split()}
        parents = {pid: parent_of(pid) for pid in found}
        # The first is not always the lowest: numbers begin anew at pid_max.
        return sorted((pid for pid in found if parents[pid]), key=lambda pid: (parents[pid] in found, pid))

    def runs(self) -> bool:
        """True while it has a process."""
        return bool(self.processes())

    @property
    def pid(self) -> int:
        """The first process's id, seen from outside the machine."""
        return wait_for(f"{self.name} has a process", self.processes)[0]

    def answers(self) -> bool:
        """True when it answers on its socket."""
        # By its own root: the engine's name of the socket is longer than a socket's may be.
        socket = Path(f"/proc/{self.pid}/root{SOCKETS}/{self.name}.sock")
        return unixhttp.status(socket, "POST", "/Plugin.Activate") == 200

    def start(self, timeout_s: float = 30.0, attempts: int = 1) -> None:
        """It answers: installed, if it was not, and enabled, or brought back by the engine."""
        wait_for("the engine answers", self.engine.answers, timeout_s)
        if not self.ident:
            self.install()
        if self._docker("plugin", "inspect", "--format", "{{.Enabled}}", self.name) == "false":
            self.enable(timeout_s * attempts)
        wait_for(f"{self.name} answers", lambda: self.runs() and self.answers(), timeout_s * attempts)

    def enable(self, timeout_s: float = 60.0, attempts: int = 3) -> None:
        """The engine has started it. It gives up after ten seconds without a socket, which a busy machine can need."""
        for left in reversed(range(attempts)):
            try:
                self._docker("plugin", "enable", self.name, timeout_s=timeout_s)
            except CommandFailed as error:
                if not left or "dial unix" not in error.stderr:
                    raise
            else:
                return

    def signal(self, number: signal.Signals) -> None:
        """Its first process was sent the signal."""
        os.kill(self.pid, number)

    def stop(self, timeout_s: float = 30.0) -> int:
        """It has ended: disabled although it is in use, or with its engine; 0 is returned, for no status is told."""
        if self.engine.runs():
            self._docker("plugin", "disable", "-f", self.name, timeout_s=timeout_s)
        wait_for(f"{self.name} has ended", lambda: not self.runs(), timeout_s)
        return 0

    def kill(self) -> None:
        """The processes that it had are dead by SIGKILL; a running engine has started others, or is about to."""
        killed = self.processes()
        for pid in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(f"{self.name} is gone", lambda: not set(killed) & set(self.processes()))

    def log_tail(self, lines: int = 60) -> str:
        """The engine's last lines about it."""
        told = [line for line in self.engine.log_tail(10 * lines).splitlines() if f"plugin={self.ident}" in line]
        return "\n".join(told[-lines:])
