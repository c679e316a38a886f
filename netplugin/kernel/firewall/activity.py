"""Which changes of the firewall are our own, so that they are not taken for those of others.

The kernel's notice of a change names the netlink port of who made it: a number that a socket gets when it is bound,
for a program of one socket its pid. Source: netlink(7), nl_pid.
"""

from __future__ import annotations

import threading
import time

# Longer than a notice waits to be read; shorter than it takes until a pid is given to another program.
_KEPT_S = 10.0


class Activity:
    """The netlink ports from which this plugin, or a program that it ran, changed the firewall of late."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ports: dict[int, float] = {}

    def mark(self, port: int) -> None:
        """What comes from `port` in the next ten seconds is ours. To be called before the change is made."""
        now = time.monotonic()
        with self._lock:
            self._ports.pop(port, None)
            self._ports[port] = now
            # The oldest stand first.
            while now - next(iter(self._ports.values())) > _KEPT_S:
                del self._ports[next(iter(self._ports))]

    def is_ours(self, port: int) -> bool:
        """Tell whether a change that was noticed just now, from `port`, was made by this plugin."""
        with self._lock:
            return time.monotonic() - self._ports.get(port, float("-inf")) <= _KEPT_S
