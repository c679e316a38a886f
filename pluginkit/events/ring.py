"""The last events of a plugin, and who follows them. Nothing here waits for anybody: verbs tell what they have done."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pluginkit.errors import Exhausted, describe
from pluginkit.events.wire import Event, FollowRequest
from pluginkit.reconcile import Outcome
from pluginkit.server import Method, bound

LOST = "events-lost"


class Happening(NamedTuple):
    """An event that has not got its number yet: see `Event`."""

    kind: str
    id: str = ""
    of: str = ""
    text: str = ""


Happenings = Callable[[str, str, str, Any, Any], Iterable[Happening]]


class Events:
    """The last `kept` events. A follower that is more than `behind` of them late is dropped."""

    def __init__(self, happenings: Happenings, *, kept: int = 1000, behind: int = 1000, followers: int = 16) -> None:
        """happenings: says what a move is to people: of a kind of record, its ID, its parent's, before, after."""
        self._happenings = happenings
        self._kept: deque[Event] = deque(maxlen=kept)
        self._behind = behind
        self._most = followers
        self._followers: set[Follower] = set()
        self._lock = threading.Lock()
        self._number = 0

    def methods(self) -> tuple[Method, ...]:
        """Return every method, as it is answered here."""
        return bound(METHODS, self)

    def follow(self, request: FollowRequest) -> Follower:
        """Return one line an event: those that are remembered, then those to come, until the caller hangs up.

        Who reads too slowly is told so by a last event, `events-lost`.

        Raises: Exhausted: there are too many followers.
        """
        with self._lock:
            if request.Follow and len(self._followers) >= self._most:
                raise Exhausted(f"cannot follow events: {self._most} do already; end one of them")
            known = [event for event in self._kept if request.After < event.Number]
            follower = Follower(known, self._leave, is_whole=not request.Follow)
            if request.Follow:
                self._followers.add(follower)
        return follower

    def add(self, happening: Happening) -> None:
        """Who follows is about to be told."""
        with self._lock:
            self._number += 1
            event = Event(self._number, datetime.now(UTC), *happening)
            self._kept.append(event)
            for follower in list(self._followers):
                if not follower.give(event, self._behind):
                    self._followers.discard(follower)

    def moved(self, kind: str, record_id: str, parent: str, before: Any, after: Any) -> None:
        """A record was moved: who follows is about to be told what that is."""
        for happening in self._happenings(kind, record_id, parent, before, after):
            self.add(happening)

    def failed(self, what: str, text: str) -> None:
        """A request was refused or failed: who follows is about to be told."""
        self.add(Happening("failed", what, "", text))

    def reconciled(self, outcome: Outcome) -> None:
        """Who follows is about to be told what a reconcile found to do, if it did."""
        if outcome.undone:
            self.add(Happening("settled", text=f"{outcome.undone} moves that had been cut short"))
        if outcome.swept:
            self.add(Happening("swept", text=f"{outcome.swept} kernel objects that no record wants"))
        for failure in outcome.failures:
            self.failed("reconcile", describe(failure))

    def _leave(self, follower: Follower) -> None:
        with self._lock:
            self._followers.discard(follower)
            os.close(follower.fileno())


class Follower:
    """What one of them has not been told yet. Readable, for poll(2), while there is something."""

    def __init__(self, known: Iterable[Event], leave: Callable[[Follower], None], *, is_whole: bool) -> None:
        """leave: called once, when nothing more is wanted. is_whole: nothing comes after `known`."""
        self._waiting = deque(known)
        self._leave: Callable[[Follower], None] | None = leave
        self._ends = is_whole
        self._ready = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Return the descriptor that is readable while there is something."""
        return self._ready

    def give(self, event: Event, most: int) -> bool:
        """It will be told; return whether it wants more: not if it has left `most` events waiting."""
        is_late = len(self._waiting) >= most
        if is_late:
            text = f"{most} events were not fetched in time; ask again for those after {event.Number - 1}"
            event = Event(event.Number, event.At, LOST, "", "", text)
        self._waiting.append(event)
        self._ends = is_late
        os.eventfd_write(self._ready, 1)
        return not is_late

    def take(self) -> list[Event] | None:
        """Return what has come since the last time; None: no more will."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._ready)
        # Before looking at what is there: what is given meanwhile is there before the end is.
        ends = self._ends
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if ends and taken:
            # The end is told once all that was before it is.
            os.eventfd_write(self._ready, 1)
        return None if ends and not taken else taken

    def close(self) -> None:
        """It is told nothing more."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave(self)


METHODS = (Method("Events.Follow", FollowRequest, Events.follow, lines=Event),)
