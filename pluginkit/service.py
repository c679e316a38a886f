"""A plugin as a process: gunicorn with one threaded worker on one Unix socket.

The arbiter binds the socket and forks the worker; the worker loads the records and brings the kernel in line before it
accepts, so a request that comes early waits instead of being told "not found". SIGTERM ends both after the running
requests have finished and takes nothing down. SIGHUP, a timer and `wake` reconcile.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import AppImportError
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

from pluginkit import listener
from pluginkit.errors import PluginError
from pluginkit.log import failure

if TYPE_CHECKING:
    from flask import Flask

log = logging.getLogger(__name__)

# Requests of one network queue for its lock, each in a thread: enough of them that other networks are not starved.
_THREADS = 64
_GRACE_S = 20
# Nobody who speaks this protocol pauses within a request; who does must not keep a thread for ever.
_PAUSE_S = 10
# Between two reconciles there is so many times as much time as the first one took.
_PAUSES = 20
# Source: malloc.h.
_M_MMAP_THRESHOLD = -3


@dataclass(frozen=True)
class Running:
    """What a plugin is made of once it has started: its app, and what to do now and then.

    watch: never returns; calls what it is given when it is time to reconcile before the timer says so.
    admin: what answers on the administrator's socket, if there is one.
    """

    app: Flask
    reconcile: Callable[[], None]
    watch: Callable[[Callable[[], None]], None] | None = None
    admin: Flask | None = None


@dataclass(frozen=True)
class Service:
    """How to run one plugin.

    check: raises StateError if the state cannot be used; called before anything listens.
    load: imports what `start` needs; called when the socket listens. An engine dials a managed plugin half a second
        after it has started it, and then every three seconds. Source: moby plugin/manager_linux.go.
    start: opens the state, reconciles, and returns the app; called in the process that answers.
    """

    name: str
    socket: Path
    state_dir: Path
    reconcile_every_s: float
    check: Callable[[], None]
    load: Callable[[], object]
    start: Callable[[], Running]


def serve(service: Service) -> None:
    """Answer requests until SIGTERM; never returns.

    Raises: StateError, Conflict, KernelError: the plugin cannot start; nothing was changed.
    """
    _give_back_buffers()
    listener.claim(service.state_dir)
    service.check()
    bound = None if listener.passed_by_systemd() else listener.bind(service.socket)
    _Arbiter(_Application(service, bound)).run()


def _give_back_buffers() -> None:
    """Blocks of malloc of 64 KiB and more are the kernel's again once they are freed.

    Who reads netlink allocates 256 KiB for each answer and keeps the first few bytes. glibc would take such blocks out
    of its heaps from the second one on, and the rests between what is kept add up. Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # not in musl
        mallopt(_M_MMAP_THRESHOLD, 64 * 1024)


class _Application(BaseApplication):  # type: ignore[misc]
    """gunicorn's view of a Service: the only settings it ever gets."""

    def __init__(self, service: Service, bound: int | None) -> None:
        self.service = service
        self.wake = threading.Event()
        self._bound = bound
        super().__init__()

    def load_config(self) -> None:
        settings: dict[str, Any] = {
            "workers": 1,
            "worker_class": _Worker,
            "threads": _THREADS,
            "worker_connections": 1000,
            "backlog": 512,
            # dockerd may send into a connection at the moment it is closed, and then repeats the request without its
            # body; "Connection: close" after each answer leaves no such moment.
            "keepalive": 0,
            "timeout": 0,
            "graceful_timeout": _GRACE_S,
            "logger_class": _Logger,
            "control_socket_disable": True,
            "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,  # noqa: S108
            "proc_name": self.service.name,
        }
        if self._bound is not None:
            settings["bind"] = [f"fd://{self._bound}"]
        for name, value in settings.items():
            # Older gunicorns have no control socket to disable.
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Flask:
        from pluginkit import admin

        try:
            running = self.service.start()
            if running.admin is not None:
                admin.listen(self.service.state_dir, running.admin)
        except PluginError as exc:
            # gunicorn prints the text of this one, without a traceback, and ends instead of trying again.
            raise AppImportError(str(exc)) from exc
        threading.Thread(target=self._reconcile_forever, args=(running.reconcile,), daemon=True).start()
        if running.watch is not None:
            threading.Thread(target=running.watch, args=(self.wake.set,), daemon=True).start()
        log.info("%s answers on %s", self.service.name, self.service.socket)
        return running.app

    def _reconcile_forever(self, reconcile: Callable[[], None]) -> None:
        pause_s = self.service.reconcile_every_s
        while True:
            self.wake.wait(pause_s)
            self.wake.clear()
            began = time.monotonic()
            try:
                reconcile()
            except Exception as exc:  # noqa: BLE001 - the next round tries again; the thread must live
                failure(log, exc)
            # It keeps requests waiting: where there is so much that it takes long, it comes less often.
            pause_s = max(self.service.reconcile_every_s, _PAUSES * (time.monotonic() - began))


class _Arbiter(Arbiter):  # type: ignore[misc]
    def start(self) -> None:
        """It listens before what takes long to load is loaded, once, for its workers share that memory with it."""
        super().start()
        self.app.service.load()
        # The collector would write into every object, and a page that is written to is shared no longer.
        gc.collect()
        gc.freeze()

    def handle_hup(self) -> None:
        """SIGHUP is for the worker, which reconciles; there is no configuration to reload."""
        self.kill_workers(signal.SIGHUP)


class _Worker(ThreadWorker):  # type: ignore[misc]
    def init_signals(self) -> None:
        super().init_signals()
        signal.signal(signal.SIGHUP, lambda _number, _frame: self.app.wake.set())

    def enqueue_req(self, conn: Any) -> None:
        """The connection is served by a thread, which waits for each part of its request for a bounded time."""
        # An option of the kernel's, for gunicorn itself sets the socket to wait for ever.
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _PAUSE_S, 0))
        super().enqueue_req(conn)


class _Logger(Logger):  # type: ignore[misc]
    """gunicorn's messages go where all others go."""

    def setup(self, cfg: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        self.error_log = logging.getLogger("gunicorn")
        self.access_log = logging.getLogger("gunicorn.access")
        self.access_log.disabled = True
        if not logging.getLogger().isEnabledFor(logging.DEBUG):
            self.error_log.setLevel(logging.WARNING)
