"""Containers without anything in them: a network namespace that stays while its sleeper lives."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.networks.records import Target
from tests.serving import MORTAL, PATIENCE_S


def ip(*words: str) -> Any:
    """Return what ip(8) says of the test's namespace."""
    return json.loads(subprocess.run(["ip", "-j", *words], capture_output=True, text=True, check=True).stdout or "[]")


class Bare:
    """One of them, its files below `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._sleeper = subprocess.Popen([*MORTAL, "unshare", "--net", "sleep", "1000"])
        self.netns = Path(f"/proc/{self._sleeper.pid}/ns/net")
        own = Path("/proc/thread-self/ns/net").stat().st_ino
        self.until(lambda: self.netns.stat().st_ino != own)
        self.id, self.files = (name * 64)[:64], folder / name
        self.files.mkdir()
        self.target = Target(self.id, name, self.id[:12], self.netns, self.files)

    def run(self, *words: str) -> str:
        """Return what the command says in the namespace; fails when it does."""
        done = subprocess.run(["nsenter", f"--net={self.netns}", *words], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ip(self, *words: str) -> Any:
        """Return what ip(8) says of the namespace."""
        return json.loads(self.run("ip", "-j", *words) or "[]")

    def until(self, condition: Callable[[], bool]) -> None:
        """`condition` holds; fails when it does not come true."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def close(self) -> None:
        """Nothing is left of it."""
        self._sleeper.kill()
        self._sleeper.wait()
