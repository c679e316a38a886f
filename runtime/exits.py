"""One thread that learns of every end of a conmon, and says so."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from itertools import count

from runtime.errors import ApiError

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _LONGEST_RETRY_S = 0.1, 60.0, 10.0


def pause_s(failures: int) -> float:
    """Return how long to wait after so many failures in a row: at first 0.1 s, then twice as long up to a minute."""
    return min(_FIRST_PAUSE_S * 2.0 ** min(failures - 1, 10), _LONGEST_PAUSE_S)


def later(after_s: float, call: Callable[[str], None], key: str) -> None:
    """`call(key)` is called then, in a thread of its own, if the daemon has not ended."""
    timer = threading.Timer(after_s, call, args=(key,))
    timer.daemon = True
    timer.start()


class Exits:
    """Whoever watches a process is called, in a thread of its own, once it has ended."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._calls: dict[int, Callable[[], None]] = {}
        threading.Thread(target=self._run, name="exits", daemon=True).start()

    def watch(self, pid: int | None, call: Callable[[], None]) -> None:
        """`call` is called when the process has ended; at once if it has already (None: nobody knows its id)."""
        try:
            if pid is None:
                raise ProcessLookupError
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            threading.Thread(target=self._call, args=(call,), daemon=True).start()
            return
        self._calls[descriptor] = call
        self._poll.register(descriptor, select.EPOLLIN | select.EPOLLONESHOT)

    def _run(self) -> None:
        while True:
            for descriptor, _ in self._poll.poll():
                call = self._calls.pop(descriptor)
                os.close(descriptor)
                threading.Thread(target=self._call, args=(call,), daemon=True).start()

    def _call(self, call: Callable[[], None]) -> None:
        told = ""
        for failures in count(1):
            try:
                call()
                return
            except ApiError as exc:
                # The end has happened, and a full disk only keeps it from being written down: tried again.
                if str(exc) != told:
                    told = str(exc)
                    log.warning("after the end of a process: %s; tried again until it is done", exc)
                time.sleep(min(pause_s(failures), _LONGEST_RETRY_S))
            except Exception:
                log.exception("after the end of a process")
                return
