"""pyrun as a process: gunicorn with one threaded worker on one Unix socket.

The worker recovers before it accepts, so that no request meets a half-known container. SIGTERM ends the daemon, and no
container unless it was told so: their conmons go on.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import AppImportError
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

from runtime.errors import ApiError, Conflict, Failed

log = logging.getLogger(__name__)

_THREADS = 64
# A killed daemon's worker notices within a second that its parent is gone, and then finishes its requests.
_CLAIM_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Running:
    """What answers, and what is done when an administrator ends it."""

    app: Flask
    close: Callable[[], None]


def serve(path: Path, root: Path, start: Callable[[], Running], grace_s: int) -> None:
    """Answer requests on `path` until SIGTERM; never returns. `start` is called in the process that answers.

    grace_s: how long requests, and what is to be done at the end, may take after SIGTERM.

    Raises: Conflict, Failed: another daemon serves, or a directory cannot be used; nothing was changed.
    """
    claim(root)
    Arbiter(_Application(start, bind(path), grace_s)).run()


def claim(root: Path) -> int:
    """`root` is this process's and its children's until they end.

    Raises: Conflict: another daemon has it; Failed: it cannot be made.
    """
    try:
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
        descriptor = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise Failed(f"cannot use {root}: {exc.strerror}; give another --root") from exc
    try:
        deadline = time.monotonic() + _CLAIM_TIMEOUT_S
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                raise Conflict(
                    f"cannot use {root}: another pyrun serves from it; stop that one, or give another --root"
                )
            time.sleep(0.1)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def bind(path: Path) -> int:
    """A socket is bound at `path`, mode 0660; return its descriptor. `claim` has shown that its file may be replaced.

    Raises: Conflict: something that is no socket is there; Failed: it cannot be bound.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if path.is_symlink() or (path.exists() and not stat.S_ISSOCK(path.stat().st_mode)):
            raise Conflict(f"cannot listen on {path}: it is no socket; remove it, or give another --socket")
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o117)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
    except OSError as exc:
        raise Failed(f"cannot listen on {path}: {exc.strerror or exc}; give another --socket") from exc
    return listening.detach()


class _Application(BaseApplication):  # type: ignore[misc]
    def __init__(self, start: Callable[[], Running], bound: int, grace_s: int) -> None:
        self._start, self._bound, self._grace_s = start, bound, grace_s
        self.running: Running | None = None
        super().__init__()

    def load_config(self) -> None:
        settings: dict[str, Any] = {
            "bind": [f"fd://{self._bound}"], "workers": 1, "worker_class": _Worker, "threads": _THREADS,
            "worker_connections": 1000, "keepalive": 75, "timeout": 0, "graceful_timeout": self._grace_s,
            "logger_class": _Logger, "control_socket_disable": True, "proc_name": "pyrun",
            "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,  # noqa: S108
        }  # fmt: skip
        for name, value in settings.items():
            # Older gunicorns have no control socket to disable.
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Flask:
        try:
            self.running = self._start()
        except ApiError as exc:
            # gunicorn prints the text of this one, without a traceback, and ends instead of trying again.
            raise AppImportError(str(exc)) from exc
        return self.running.app


class _Worker(ThreadWorker):  # type: ignore[misc]
    _closing: threading.Thread | None = None

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM ends what is to end with the daemon; the death of its arbiter does not come by here."""
        super().handle_exit(sig, frame)
        if self.app.running is not None and self._closing is None:
            # Meanwhile: the streams of containers that end by it are requests that the worker waits for.
            self._closing = threading.Thread(target=self.app.running.close)
            self._closing.start()

    def run(self) -> None:
        """Answer until the end, and end no sooner than what has to be done then."""
        super().run()
        if self._closing is not None:
            self._closing.join()


class _Logger(Logger):  # type: ignore[misc]
    """gunicorn's messages go where all others go."""

    def setup(self, cfg: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        self.error_log = logging.getLogger("gunicorn")
        self.access_log = logging.getLogger("gunicorn.access")
        self.access_log.disabled = True
