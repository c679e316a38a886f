"""Keyed locks: one holder a key, or one holder of everything.

Everything lock-related is here. A verb holds the key of the object it changes; reconcile holds all. Waiting is bounded,
because dockerd sets no time limit of its own on network calls.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pluginkit.errors import Unavailable


class Locks:
    """A set of locks named by strings. Not re-entrant: whoever holds keys takes no more."""

    def __init__(self, timeout_s: float = 20.0, turn_s: float = 1.0) -> None:
        """turn_s: how long newcomers wait for who wants everything, before it is their turn for as long."""
        self._timeout_s = timeout_s
        self._turn_s = turn_s
        self._changed = threading.Condition()
        self._held: set[str] = set()
        self._all_held = False
        self._all_wanted = 0

    @contextmanager
    def hold(self, *keys: str) -> Iterator[None]:
        """Inside the block nobody else holds any of `keys`, which were taken all at once, and nobody holds everything.

        Raises: Unavailable: the keys did not become free in time.
        """
        with self._changed:
            # A waiting hold_all goes first, for a while, or a busy plugin would never reconcile.
            self._wait_for(
                lambda: not (self._all_held or self._all_wanted or self._held.intersection(keys)), " and ".join(keys)
            )
            self._held.update(keys)
        try:
            yield
        finally:
            with self._changed:
                self._held.difference_update(keys)
                self._changed.notify_all()

    @contextmanager
    def lend(self, *keys: str) -> Iterator[None]:
        """Inside the block others may hold `keys`, which the caller holds; afterwards it does again, however late.

        For what takes long: the caller sees to it that what others do meanwhile does no harm.
        """
        with self._changed:
            self._held.difference_update(keys)
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                # Without a limit, for giving up now would waste what took so long; each of the others has one.
                self._changed.wait_for(
                    lambda: not (self._all_held or self._all_wanted or self._held.intersection(keys))
                )
                self._held.update(keys)

    @contextmanager
    def hold_all(self) -> Iterator[None]:
        """Inside the block nobody else holds anything.

        Raises: Unavailable: the others did not finish in time.
        """
        with self._changed:
            self._wait_for_all()
            self._all_held = True
        try:
            yield
        finally:
            with self._changed:
                self._all_held = False
                self._changed.notify_all()

    def _wait_for_all(self) -> None:
        deadline = time.monotonic() + self._timeout_s
        ours = True
        # By turns: one that holds a key for long must not keep all others out of theirs for as long.
        while not self._all_free_within(min(self._turn_s, deadline - time.monotonic()), wanted=ours):
            ours = not ours
            if time.monotonic() >= deadline:
                raise self._busy("everything")

    def _all_free_within(self, seconds: float, *, wanted: bool) -> bool:
        self._all_wanted += wanted
        try:
            return self._changed.wait_for(lambda: not (self._all_held or self._held), seconds)
        finally:
            self._all_wanted -= wanted
            self._changed.notify_all()

    def _busy(self, what: str) -> Unavailable:
        return Unavailable(
            f"cannot start on {what}: another operation on it has not ended in {self._timeout_s:g} s; try again"
        )

    def _wait_for(self, free: Callable[[], bool], what: str) -> None:
        if not self._changed.wait_for(free, self._timeout_s):
            raise self._busy(what)
