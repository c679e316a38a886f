"""The plugin's Unix socket and its claim on the state directory."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from pathlib import Path

from pluginkit.errors import Conflict, KernelError

# A killed plugin's worker notices within a second that its parent is gone; a stopped one may finish a last request.
_CLAIM_TIMEOUT_S = 15.0


def claim(directory: Path) -> int:
    """`directory` exists and belongs to this process and its children until they end; return the lock's descriptor.

    Raises: Conflict: another process has it and keeps it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _CLAIM_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise Conflict(
                    f"cannot use the state directory {directory}: another process serves from it; stop that one, or"
                    " give another --state-dir"
                ) from exc
            time.sleep(0.1)
        else:
            return descriptor


def bind(path: Path) -> int:
    """A socket at `path`, mode 0660, is bound and not yet listening; return its descriptor.

    A socket file on which nobody listens any more is replaced.

    Raises: Conflict: somebody answers there, or the path is something else; KernelError: it cannot be bound.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _clear_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # Set before bind, so that there is no moment at which the socket is open to others.
    previous = os.umask(0o117)
    try:
        listener.bind(str(path))
    except OSError as exc:
        listener.close()
        raise KernelError("listen on", str(path), exc.errno or 0, "is the path too long (108 bytes)?") from exc
    finally:
        os.umask(previous)
    return listener.detach()


def _clear_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"cannot listen on {path}: it exists and is not a socket; remove it or give another --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        code = probe.connect_ex(str(path))
    if code in (0, errno.EAGAIN):
        raise Conflict(f"cannot listen on {path}: another process answers there; stop it or give another --socket")
    path.unlink(missing_ok=True)


def passed_by_systemd() -> bool:
    """Tell whether the service manager passed a socket to this process. Source: sd_listen_fds(3)."""
    return os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "0") != "0"
