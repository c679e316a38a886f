"""What happened, told to whoever listens: `docker events`."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

_KEPT = 1000


class Events:
    """The last events, and those to come. They are forgotten when the daemon ends, as with dockerd."""

    def __init__(self) -> None:
        self._last: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_KEPT)
        self._count = 0
        self._changed = threading.Condition()

    def tell(self, kind: str, action: str, actor: str, attributes: Mapping[str, str]) -> None:
        """Every listener has it."""
        nanoseconds = time.time_ns()
        event = {
            "Type": kind, "Action": action, "scope": "local", "time": nanoseconds // 10**9, "timeNano": nanoseconds,
            "Actor": {"ID": actor, "Attributes": dict(attributes)}, "status": action, "id": actor,
        }  # fmt: skip
        with self._changed:
            self._count += 1
            self._last.append((self._count, event))
            self._changed.notify_all()

    def since(self, begin: float | None, end: float | None) -> Iterator[dict[str, Any] | None]:
        """Yield the events from `begin` (None: now) to `end` (None: for ever); None while nothing happens."""
        with self._changed:
            seen = self._count if begin is None else 0
        while True:
            with self._changed:
                fresh = [(number, event) for number, event in self._last if number > seen]
                if not fresh and (end is None or time.time() < end):
                    self._changed.wait(1.0 if end is None else min(1.0, max(0.0, end - time.time())))
            for number, event in fresh:
                seen = number
                if (begin is None or event["timeNano"] >= begin * 10**9) and (
                    end is None or event["timeNano"] <= end * 10**9
                ):
                    yield event
            if not fresh:
                if end is not None and time.time() >= end:
                    return
                yield None
