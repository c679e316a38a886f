"""One lock for each thing that has a name, while somebody wants it."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakValueDictionary


class Turns:
    """Locks by key. A thread that has one may take it again."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._locks: WeakValueDictionary[str, Any] = WeakValueDictionary()

    def of(self, key: str) -> Any:
        """Return the lock of `key`, for a with statement."""
        with self._turn:
            lock = self._locks.get(key)
            if lock is None:
                lock = self._locks[key] = threading.RLock()
            return lock
