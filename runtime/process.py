"""The processes below pyrun: conmon, one per container and per exec, and runc, which conmon and pyrun call.

conmon outlives the daemon: it keeps the terminal or the pipes, writes the log, waits for the process and leaves its
exit code in a file. Source: conmon(8), conmon's src/conmon.c for the pipes; runc(8).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import Failed
from runtime.kernel import connect

STDOUT, STDERR = 2, 3  # the first byte of what conmon sends to whoever is attached
_TIMEOUT_S = 60.0
_RESIZE = 1  # conmon's control message: "1 height width"


@dataclass(frozen=True)
class Shim:
    """One conmon: of a container, or of an exec in it (`session`). Everything of its own lies in `folder`.

    log_bytes: how much of the output is kept at most; 0: all of it.
    """

    container: str
    folder: Path
    log: Path | None = None
    session: str = ""
    log_bytes: int = 0

    @property
    def exit_file(self) -> Path:
        """Where conmon writes the exit code; there is no file while the process runs."""
        return self.folder / "exit" / self.container

    def conmon_pid(self) -> int | None:
        """Return the process id of the conmon that runs for this, or None."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.folder / "conmon.pid").read_text())
            # The number may belong to another process by now: conmon's own arguments name the folder.
            if str(self.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        return None

    def exit_code(self) -> int | None:
        """Return the exit code that conmon has left, or None."""
        with contextlib.suppress(OSError, ValueError):
            return int(self.exit_file.read_text())
        return None

    def resize(self, height: int, width: int) -> None:
        """The terminal has this size. Nothing happens when there is no terminal any more."""
        with contextlib.suppress(OSError):
            # Without O_NONBLOCK the open waits for a reader, which a dead conmon never is.
            descriptor = os.open(self.folder / "ctl", os.O_WRONLY | os.O_NONBLOCK)
            with os.fdopen(descriptor, "wb", buffering=0) as control:
                control.write(b"%d %d %d\n" % (_RESIZE, height, width))

    def attach(self) -> socket.socket:
        """Return a connection to the process's standard streams: packets of one stream byte and data.

        Raises: Failed: nothing listens there (any more).
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            connect(connection, self.folder / "attach")
        except OSError as exc:
            connection.close()
            raise Failed(f"cannot attach to {self.session or self.container}: {exc.strerror}; has it ended?") from exc
        return connection


class Processes:
    """conmon, runc and nft as programs of this machine; `root` is runc's own folder, which a reboot empties."""

    def __init__(self, root: Path, cgroup: str) -> None:
        """Raises: Failed: one of the programs is not installed."""
        self.root, self.cgroup = root, cgroup
        self._programs = {name: shutil.which(name) for name in ("conmon", "runc", "nft")}
        missing = [name for name, path in self._programs.items() if path is None]
        if missing:
            raise Failed(f"cannot run containers: no {' and no '.join(missing)} in PATH; see docs/pyrun.md")
        self._command = [str(self._programs["runc"]), f"--root={root}", "--log-format=json"]

    def create(self, shim: Shim, terminal: bool, stdin: bool, keep_stdin: bool) -> int:
        """The container exists, its process waits for `start`; return the process id.

        Raises: Failed with what runc said.
        """
        self._clear(shim)
        return self._conmon(shim, terminal, stdin, keep_stdin, [], None)

    def execute(self, shim: Shim, process: dict[str, Any], stdin: bool, attach: Callable[[], None] | None) -> int:
        """Another process runs in the container; return its id. `attach` is called before it starts, so misses nothing.

        Raises: Failed with what runc said.
        """
        self._clear(shim)
        specification = shim.folder / "process.json"
        specification.write_text(json.dumps(process))
        arguments = ["--exec", f"--exec-process-spec={specification}", *(["--exec-attach"] if attach else [])]
        return self._conmon(shim, bool(process["terminal"]), stdin, False, arguments, attach)

    def start(self, container: str) -> None:
        """The process of the created container runs."""
        self._runc("start", container)

    def start_created(self, container: str) -> None:
        """The process runs, if the container was created and never started."""
        if json.loads(self._runc("state", container))["status"] == "created":
            self.start(container)

    def signal(self, container: str, number: int) -> None:
        """The container's first process was sent the signal, or has just ended."""
        try:
            self._runc("kill", container, str(number))
        except Failed as exc:
            if not str(exc).endswith("container not running"):
                raise

    def pause(self, container: str, paused: bool) -> None:
        """The processes are frozen, or run again."""
        self._runc("pause" if paused else "resume", container)

    def remove(self, container: str) -> None:
        """The container is unknown to runc, and none of its processes is left. The unknown is removed, too."""
        if (self.root / container).exists():
            self._runc("delete", "--force", container)

    def limit(self, container: str, resources: dict[str, Any]) -> None:
        """The container has these limits, as the runtime specification's `resources` spells them."""
        run([*self._command, "update", "--resources=-", container], json.dumps(resources))

    def usage(self, container: str) -> dict[str, Any]:
        """Return what the cgroup counts, as `runc events --stats` tells it."""
        content: dict[str, Any] = json.loads(self._runc("events", "--stats", container))["data"]
        return content

    def processes(self, container: str) -> list[int]:
        """Return the ids of the container's processes."""
        found: list[int] = json.loads(self._runc("ps", "--format", "json", container)) or []
        return found

    def table(self, arguments: list[str]) -> str:
        """Return what ps(1) prints of all processes with the given arguments."""
        return run(["ps", *arguments])

    def _clear(self, shim: Shim) -> None:
        (shim.folder / "exit").mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("attach", "ctl", "winsz", "conmon.pid", "pid"):
            (shim.folder / name).unlink(missing_ok=True)
        shim.exit_file.unlink(missing_ok=True)

    def _conmon(self, shim: Shim, terminal: bool, stdin: bool, keep_stdin: bool, more: list[str],
                attach: Callable[[], None] | None) -> int:  # fmt: skip
        log = f"k8s-file:{shim.log}" if shim.log else "off"
        command = [
            str(self._programs["conmon"]), "--api-version=1", f"--cid={shim.container}",
            f"--cuuid={shim.session or shim.container}", f"--runtime={self._programs['runc']}",
            f"--runtime-arg=--root={self.root}", "--runtime-arg=--log-format=json",
            "--bundle", str(shim.folder), "--full-attach",
            f"--container-pidfile={shim.folder}/pid", f"--conmon-pidfile={shim.folder}/conmon.pid",
            f"--exit-dir={shim.folder}/exit", f"--log-path={log}", "--log-level=error", *more,
        ]  # fmt: skip
        if shim.log_bytes:
            command.append(f"--log-size-max={shim.log_bytes}")
        command += [flag for flag, on in (("-t", terminal), ("-i", stdin), ("--leave-stdin-open", keep_stdin)) if on]
        ends = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        (told, sync), (ready, attached), (start, go) = ends
        environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC", "_OCI_SYNCPIPE": str(sync)}
        if attach:
            environment |= {"_OCI_ATTACHPIPE": str(attached), "_OCI_STARTPIPE": str(start)}
        try:
            # A session of its own: what is sent to the daemon's process group is not for containers.
            conmon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=[sync, attached, start], env=environment, start_new_session=True, cwd=shim.folder,
            )  # fmt: skip
            for descriptor in (sync, attached, start):
                os.close(descriptor)
            with open(told, "rb", closefd=False) as pid_line, open(ready, "rb", closefd=False) as attach_line:
                if attach:
                    os.write(go, b"1")  # it forks
                    if attach_line.readline():
                        attach()
                        os.write(go, b"1")  # it starts the process
                conmon.wait(_TIMEOUT_S)
                line = pid_line.readline()
        finally:
            for descriptor in (told, ready, go):
                os.close(descriptor)
        answer = json.loads(line) if line.strip() else {}
        pid = int(answer.get("data", -1))
        if pid > 0:
            return pid
        reason = str(answer.get("message") or "conmon ended without a word").strip()
        raise Failed(f"cannot start {shim.session or shim.container}: {_readable(reason)}")

    def _runc(self, *arguments: str) -> str:
        return run([*self._command, *arguments])


def run(command: list[str], stdin: str = "") -> str:
    """Return what the program said. It runs in the network namespace of the thread that calls.

    Raises: Failed with its own words, or because it takes too long.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S, input=stdin,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Failed(f"cannot run {' '.join(command)}: {exc}") from exc
    if done.returncode != 0:
        raise Failed(f"cannot run {' '.join(command)}: {_readable(done.stderr.strip())}")
    return done.stdout


def exit_code(failure: BaseException) -> int:
    """Return what a shell would say of a command that cannot be started."""
    text = str(failure)
    return 127 if "executable file not found" in text or "no such file or directory" in text else 126


def _readable(told: str) -> str:
    """Return the message inside runc's log line, or the text itself."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(json.loads(told.splitlines()[-1])["msg"])
    return told
