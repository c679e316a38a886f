"""Who sent the request that this thread is answering."""

from __future__ import annotations

import os
import socket
import struct
from contextvars import ContextVar
from pathlib import Path

_caller: ContextVar[str] = ContextVar("caller", default="")


def current() -> str:
    """Return an identifier of the calling process's incarnation, or "" if it cannot be known.

    Two calls from one process give the same text, and a restarted engine gives another. Not known: a caller over
    TCP, or in a PID namespace that is not visible from here.
    """
    return _caller.get()


def remember(connection: socket.socket | None) -> None:
    """`current()` in this context speaks of the peer of `connection`.

    Source: unix(7) SO_PEERCRED; proc_pid_stat(5) field 22, the start time, tells a reused process ID from the old one.
    """
    _caller.set("")
    if connection is None or connection.family != socket.AF_UNIX:
        return
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, _, _ = struct.unpack("3i", credentials)
    start_time = _start_time(pid)
    if start_time is not None:
        _caller.set(f"{pid}@{start_time}")


def own() -> str:
    """Return what this process is named as a caller, for work that it does itself."""
    return f"{os.getpid()}@{_start_time(os.getpid())}"


def is_running(caller: str) -> bool:
    """Tell whether the process that `current()` once named `caller` still runs; of an unknown one it is not known."""
    pid, _, start_time = caller.partition("@")
    return bool(pid) and _start_time(int(pid)) == start_time


def _start_time(pid: int) -> str | None:
    """Return when the process started, in the kernel's clock ticks, or None if it has ended or cannot be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command name is in parentheses and may hold anything, so fields are counted from its end.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]
