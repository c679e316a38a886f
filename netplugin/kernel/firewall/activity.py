"""When this process itself changes the firewall, so that it does not take its own changes for those of others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Notices of a change arrive while it is made or right after.
_ECHO_S = 0.3


class Activity:
    """Knows whether a change of ours is being made, or was a moment ago."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._last = float("-inf")

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Inside the block, and a moment longer, `recent` is true."""
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                self._last = time.monotonic()

    def recent(self) -> bool:
        """Tell whether what was noticed now may be our own doing."""
        with self._lock:
            return self._running > 0 or time.monotonic() - self._last < _ECHO_S
