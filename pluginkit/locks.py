"""Keyed locks: one holder a key, or one holder of everything.

Everything lock-related is here. A verb holds the key of the object it changes; reconcile holds all. Waiting is bounded,
because dockerd sets no time limit of its own on network calls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pluginkit.errors import Unavailable


class Locks:
    """A set of locks named by strings. Not re-entrant: a thread holds one key at a time."""

    def __init__(self, timeout_s: float = 20.0) -> None:
        self._timeout_s = timeout_s
        self._changed = threading.Condition()
        self._held: set[str] = set()
        self._all_held = False
        self._all_wanted = 0

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Inside the block nobody else holds `key`, and nobody holds everything.

        Raises: Unavailable: the key did not become free in time.
        """
        with self._changed:
            # A waiting hold_all goes first, or a busy plugin would never reconcile.
            self._wait_for(lambda: not (self._all_held or self._all_wanted or key in self._held), key)
            self._held.add(key)
        try:
            yield
        finally:
            with self._changed:
                self._held.discard(key)
                self._changed.notify_all()

    @contextmanager
    def hold_all(self) -> Iterator[None]:
        """Inside the block nobody else holds anything.

        Raises: Unavailable: the others did not finish in time.
        """
        with self._changed:
            self._all_wanted += 1
            try:
                self._wait_for(lambda: not (self._all_held or self._held), "everything")
                self._all_held = True
            finally:
                self._all_wanted -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._all_held = False
                self._changed.notify_all()

    def _wait_for(self, free: Callable[[], bool], what: str) -> None:
        if not self._changed.wait_for(free, self._timeout_s):
            raise Unavailable(
                f"cannot start on {what}: another operation on it has not ended in {self._timeout_s:g} s; try again"
            )
