"""The plugin's Unix socket, and its claims on the state directory and the network namespace."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

from pluginkit.errors import Conflict, KernelError

# A killed plugin's worker notices within a second that its parent is gone, and then finishes its last requests.
_CLAIM_TIMEOUT_S = 25.0


def claim(directory: Path, timeout_s: float = _CLAIM_TIMEOUT_S) -> int:
    """`directory` exists and belongs to this process and its children until they end; return the lock's descriptor.

    Raises: Conflict: another process has it and keeps it; KernelError: it cannot be made or written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise KernelError(
            "use the state directory", str(directory), exc.errno or 0, "give another --state-dir"
        ) from exc
    try:
        _wait_for(lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB), errno.EWOULDBLOCK, timeout_s)
    except OSError as exc:
        os.close(descriptor)
        raise Conflict(
            f"cannot use the state directory {directory}: another process serves from it; stop that one, or give"
            " another --state-dir"
        ) from exc
    return descriptor


def claim_network_namespace(name: str, timeout_s: float = _CLAIM_TIMEOUT_S) -> socket.socket:
    """This network namespace belongs to this process and its children, under `name`; return the socket that says so.

    Two processes that sweep one namespace would take each other's links for garbage. An abstract socket exists once a
    namespace and ends with the last process that has it. Source: unix(7).

    Raises: Conflict: another process has it and keeps it.
    """
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        _wait_for(lambda: held.bind(f"\0{name}"), errno.EADDRINUSE, timeout_s)
    except OSError as exc:
        held.close()
        raise Conflict(f"cannot serve: another {name} serves this network namespace; stop that one first") from exc
    return held


def _wait_for(attempt: Callable[[], None], busy: int, timeout_s: float) -> None:
    """`attempt` has succeeded; while it failed with the errno `busy` it was repeated."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return attempt()
        except OSError as exc:
            if exc.errno != busy or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def bind(path: Path) -> int:
    """A socket at `path`, mode 0660, is bound and not yet listening; return its descriptor.

    A socket file on which nobody listens any more is replaced.

    Raises: Conflict: somebody answers there, or the path is something else; KernelError: it cannot be bound.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _clear_stale(path)
    except OSError as exc:
        raise KernelError("listen on", str(path), exc.errno or 0, "give another --socket") from exc
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
    # Anything else means that somebody is there: a full queue, no permission, another type of socket.
    if code not in (errno.ECONNREFUSED, errno.ENOENT):
        raise Conflict(f"cannot listen on {path}: another process answers there; stop it or give another --socket")
    path.unlink(missing_ok=True)


def passed_by_systemd() -> bool:
    """Tell whether the service manager passed a socket to this process. Source: sd_listen_fds(3)."""
    return os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "0") != "0"
