"""Things that are looked at again and again, in a thread each, so that no page waits for a plugin that hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from pluginkit.errors import PluginError, describe

T = TypeVar("T")

# A page asks every two seconds; one that is gone or hidden is missed soon.
_WATCHED_S = 15.0
_FIRST_S = 3.0


@dataclass(frozen=True)
class Reading(Generic[T]):
    """What was seen last, and when. error: why there is nothing newer, "" if there is nothing wrong."""

    value: T | None
    at: datetime | None
    error: str


class Source(Generic[T]):
    """Looks every `every_s` while somebody wants to know, and every `idle_s` while nobody does, unless that is None."""

    def __init__(self, name: str, look: Callable[[], T], every_s: float, idle_s: float | None = None) -> None:
        self._look, self._every_s, self._idle_s = look, every_s, idle_s
        self._reading: Reading[T] = Reading(None, None, "")
        self._wanted_at = float("-inf")
        self._wanted, self._seen = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """It looks, for as long as the process lives."""
        self._thread.start()

    def read(self) -> Reading[T]:
        """Return what was seen last. Waits a moment if nothing ever was."""
        self._wanted_at = time.monotonic()
        self._wanted.set()
        self._seen.wait(_FIRST_S)
        if not self._seen.is_set():
            return Reading(None, None, "no answer yet")
        return self._reading

    def _run(self) -> None:
        if self._idle_s is None:
            self._wanted.wait()
        while True:
            began = time.monotonic()
            # Before the look: who asks meanwhile is not forgotten.
            self._wanted.clear()
            self._look_once()
            if began - self._wanted_at < _WATCHED_S:
                time.sleep(max(0.0, began + self._every_s - time.monotonic()))
            else:
                self._wanted.wait(self._idle_s)

    def _look_once(self) -> None:
        try:
            self._reading = Reading(self._look(), datetime.now(UTC), "")
        except PluginError as exc:
            self._reading = Reading(self._reading.value, self._reading.at, describe(exc))
        except Exception as exc:  # noqa: BLE001 - the page tells it; the next look may go well
            self._reading = Reading(self._reading.value, self._reading.at, f"{type(exc).__name__}: {exc}")
        self._seen.set()
