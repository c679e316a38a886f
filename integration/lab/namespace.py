"""A machine of the lab: network, mount and process namespace, held by an init of its own."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

INIT = Path(__file__).with_name("init.py")
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"  # not /usr/local: the engine's own docker CLI is meant
MARK = "PYLAB_ROOT"  # in the environment of every process of a lab: this is how leftovers are recognised


class CommandFailed(AssertionError):
    """A command in the lab that should have succeeded did not; the message holds all it said."""

    def __init__(self, where: str, done: "subprocess.CompletedProcess[str]", argv: tuple[str, ...]) -> None:
        self.stdout, self.stderr, self.returncode = done.stdout, done.stderr, done.returncode
        said = "\n".join(part.rstrip() for part in (done.stdout, done.stderr) if part.strip())
        super().__init__(f"{where}$ {shlex.join(argv)}\nended with {done.returncode}:\n{said}")


class Namespace:
    """A machine without a disk of its own: it shares the file system, but no mounts, links or processes."""

    def __init__(self, name: str, root: Path) -> None:
        """The namespaces exist and hold only their init; they end when this process dies, however it dies."""
        self.name, self.root = name, root
        root.mkdir(parents=True, exist_ok=True)
        self.environment = {
            "PATH": SYSTEM_PATH, "LC_ALL": "C", "HOME": str(root), "DOCKER_CONFIG": str(root / "docker-cli"),
            MARK: str(root),
        }  # fmt: skip
        unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *unshare, "--propagation", "private", sys.executable, "-IS", str(INIT)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True, env=self.environment,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise RuntimeError(f"cannot make the namespaces of {name}: root and unshare(1) are needed")
        self.pid = children(self._holder.pid)[0]
        # Shared among its own processes, so that a mount made by a plugin is seen by an engine with slave propagation.
        self.run("mount", "--make-rshared", "/")
        self.run("ip", "link", "set", "lo", "up")

    def entering(self, *argv: str) -> list[str]:
        """The command line that runs `argv` inside."""
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--pid", "--", *argv]

    def try_run(self, *argv: str, env: Mapping[str, str] | None = None, stdin: str = "",
                timeout_s: float = 60.0) -> "subprocess.CompletedProcess[str]":  # fmt: skip
        """The command has ended, well or badly; after `timeout_s` it is killed and TimeoutExpired raised."""
        process = subprocess.Popen(
            self.entering(*argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace", start_new_session=True, env={**self.environment, **(env or {})},
        )  # fmt: skip
        with process:
            try:
                out, err = process.communicate(stdin, timeout=timeout_s)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def run(self, *argv: str, env: Mapping[str, str] | None = None, stdin: str = "", timeout_s: float = 60.0) -> str:
        """The command has succeeded; its stdout is returned.

        Raises: CommandFailed with both outputs, if it ended badly.
        """
        done = self.try_run(*argv, env=env, stdin=stdin, timeout_s=timeout_s)
        if done.returncode != 0:
            raise CommandFailed(self.name, done, argv)
        return done.stdout

    def spawn(
        self, *argv: str, output: IO[bytes] | int, env: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        """The command runs inside, in a process group of its own whose id is the returned process's."""
        return subprocess.Popen(
            self.entering(*argv), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, env={**self.environment, **(env or {})},
        )  # fmt: skip

    def path(self, inside: str) -> Path:
        """Where a path of this machine is reached from outside; sockets can be connected there too."""
        return Path(f"/proc/{self.pid}/root") / inside.lstrip("/")

    def close(self) -> None:
        """Every process inside is dead and reaped; mounts, links and rules went with them."""
        if self._holder.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self._holder.wait(timeout=30)
        if self._holder.stdout is not None:
            self._holder.stdout.close()


def children(pid: int) -> list[int]:
    """The process ids of the direct children."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
