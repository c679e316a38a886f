"""Who sent the request that this thread is answering."""

from __future__ import annotations

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
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    # The command name is in parentheses and may hold anything, so fields are counted from its end.
    start_time = stat.rpartition(")")[2].split()[19]
    _caller.set(f"{pid}@{start_time}")
