"""The smallest plugin there is: run by test_service.py as `python tiny_plugin.py DIRECTORY`.

`FAIL=check` and `FAIL=start` make it fail at that point of its start; `SLOW_START` is a number of seconds.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluginkit import caller, log
from pluginkit.errors import Conflict, PluginError, StateError
from pluginkit.metrics import Metrics
from pluginkit.server import Method, create_app
from pluginkit.service import Running, Service, serve


@dataclass(frozen=True)
class Text:
    Text: str


@dataclass(frozen=True)
class Seconds:
    Seconds: float


class Tiny:
    def __init__(self) -> None:
        self.reconciles = 0
        self.running = 0
        self.most_running = 0
        self._lock = threading.Lock()

    def reconcile(self) -> None:
        self.reconciles += 1
        if self.reconciles % 2:
            raise RuntimeError("the next round must come all the same")

    def sleep(self, request: Seconds) -> dict[str, float]:
        with self._lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            time.sleep(request.Seconds)
        finally:
            with self._lock:
                self.running -= 1
        return {"Slept": request.Seconds}

    def fragile(self, request: Text) -> Text:
        if request.Text == "refused":
            raise Conflict("cannot do that")
        if request.Text == "bug":
            raise RuntimeError("a bug")
        return request

    def status(self) -> dict[str, Any]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return {
            "Pid": os.getpid(),
            "Parent": os.getppid(),
            "Caller": caller.current(),
            "Reconciles": self.reconciles,
            "Running": self.running,
            "MostRunning": self.most_running,
            "RssBytes": pages * os.sysconf("SC_PAGE_SIZE"),
            "Descriptors": len(list(Path("/proc/self/fd").iterdir())),
            "Threads": threading.active_count(),
        }


class _Malloc(ctypes.Structure):
    """mallinfo2(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "u", "f", "o", "free", "top")
    )


def mapped() -> dict[str, Any]:
    """How many bytes malloc maps for a block of 300 000 bytes, when it has freed such blocks before."""
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Malloc
    for _ in range(3):
        bytearray(300_000)
    before = mallinfo().hblkhd
    block = bytearray(300_000)
    return {"Bytes": mallinfo().hblkhd - before, "Of": len(block)}


def fail(when: str) -> None:
    if os.environ.get("FAIL") == when:
        raise StateError(f"cannot use the state file at {when}")


def load() -> None:
    time.sleep(float(os.environ.get("SLOW_LOAD", "0")))


def start() -> Running:
    fail("start")
    time.sleep(float(os.environ.get("SLOW_START", "0")))
    tiny = Tiny()
    methods = [
        Method("Tiny.Echo", Text, lambda request: request),
        Method("Tiny.Sleep", Seconds, tiny.sleep),
        Method("Tiny.Fragile", Text, tiny.fragile, hang_up=True),
        Method("Tiny.Status", None, tiny.status),
        Method("Tiny.Mapped", None, mapped),
    ]
    return Running(create_app("tiny", ["TinyDriver"], methods, Metrics("tiny")), tiny.reconcile)


def main() -> None:
    directory = Path(sys.argv[1])
    log.configure("info", journald=False)
    try:
        serve(Service("tiny", directory / "tiny.sock", directory, 3600.0, lambda: fail("check"), load, start))
    except PluginError as exc:
        sys.exit(f"tiny: {exc}")


if __name__ == "__main__":
    main()
