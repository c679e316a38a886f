"""A Debian 12 on a root directory of its own, booted by its own systemd in namespaces; a reboot keeps the directory."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

BOOT = Path(__file__).with_name("boot.sh")
CGROUPS = Path("/sys/fs/cgroup")
NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--ipc", "--cgroup")
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
}
BOOT_TIMEOUT_S = 90.0


class Machine:
    """One that may be off, on, or made to fall over."""

    def __init__(self, root: Path) -> None:
        """It is off."""
        self.root = root
        self.name = f"pylab-booted-{os.getpid()}"
        self._holder: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def boot(self) -> None:
        """All that is to run after a boot runs, docker with it."""
        for hierarchy in self._hierarchies():
            (hierarchy / self.name).mkdir(exist_ok=True)
        joining = "; ".join(f"echo 0 >{hierarchy / self.name}/cgroup.procs" for hierarchy in self._hierarchies())
        unshare = ["unshare", *NAMESPACES, "--fork", "--kill-child", "sh", str(BOOT), str(self.root)]
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "sh", "-c", f"{joining}; exec {shlex.join(unshare)}"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(lambda: self._children(), "systemd")
        self._pid = self._children()[0]
        wait_for(lambda: self.tries("systemctl", "is-system-running").strip() in ("running", "degraded"), "the boot")
        failed = self.run("systemctl", "--failed", "--no-legend", "--plain")
        assert failed == "", failed
        wait_for(lambda: "Server:" in self.tries("docker", "version"), "dockerd")

    def fall_over(self) -> None:
        """Every process is dead and every mount gone, without a goodbye."""
        if self._holder is not None:
            if self._pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
            self._holder.wait(timeout=30)
            self._holder, self._pid = None, 0
        for hierarchy in self._hierarchies():
            for folder, _, _ in os.walk(hierarchy / self.name, topdown=False):
                wait_for(lambda folder=folder: removed(Path(folder)), f"the end of {folder}")  # type: ignore[misc]

    def run(self, *argv: str, stdin: bytes = b"") -> str:
        """The command has succeeded in the machine; its stdout."""
        done = self._run(argv, stdin)
        assert done.returncode == 0, f"{shlex.join(argv)}: {done.stdout.decode()}{done.stderr.decode()}"
        return done.stdout.decode()

    def tries(self, *argv: str) -> str:
        """The command has ended in whatever way; all that it said."""
        done = self._run(argv, b"")
        return (done.stdout + done.stderr).decode()

    def _run(self, argv: tuple[str, ...], stdin: bytes) -> subprocess.CompletedProcess[bytes]:
        entering = ["nsenter", f"--target={self._pid}", *NAMESPACES, f"--root=/proc/{self._pid}/root", "--wdns=/"]
        return subprocess.run(
            [*entering, "--", *argv], input=stdin, capture_output=True, check=False, timeout=120, env=ENVIRONMENT
        )

    def _children(self) -> list[int]:
        assert self._holder is not None
        assert self._holder.poll() is None, "the machine fell over while it booted"
        return [
            int(pid) for pid in Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        ]

    def _hierarchies(self) -> list[Path]:
        # A group of cpuset takes nobody before it was told which processors it has.
        return [path for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists() and path.name != "cpuset"]


def removed(folder: Path) -> bool:
    """Whether the cgroup is gone; it is busy until its last process is reaped."""
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def wait_for(condition: Callable[[], object], what: str) -> None:
    """The condition holds."""
    deadline = time.monotonic() + BOOT_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"no {what} after {BOOT_TIMEOUT_S:g} s"
        time.sleep(0.2)
