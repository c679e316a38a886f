"""What the plugins are asked by their sockets for administrators. Answers are as docs/api-*.json has them."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from pluginkit import admin

Answer = dict[str, Any]
_KEPT_EVENTS = 200


class Plugin:
    """One plugin, seen through its socket. Its events are kept from look to look."""

    def __init__(self, name: str, state_dir: Path) -> None:
        self.name = name
        self._state_dir = state_dir
        self._events: deque[Answer] = deque(maxlen=_KEPT_EVENTS)
        self._last = 0

    def ask(self, method: str, request: Answer | None = None) -> Answer:
        """Return an answer. Raises: PluginError: there is no good one."""
        return admin.call(self.name, self._state_dir, method, request or {}, dict)

    def events(self) -> list[Answer]:
        """Return what has happened, the oldest first. Raises: as `ask`."""
        fresh = self._since(self._last)
        if not fresh and self._last and not self._since(self._last - 1):
            # It was started again and counts anew; what it told before is history all the same.
            fresh = self._since(0)
        self._events += fresh
        self._last = fresh[-1]["Number"] if fresh else self._last
        return list(self._events)

    def _since(self, number: int) -> list[Answer]:
        request = {"After": number, "Follow": False}
        return list(admin.lines(self.name, self._state_dir, "Events.Follow", request, dict))


class Pynet(Plugin):
    """pynet."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__("pynet", state_dir)

    def look(self) -> Answer:
        """Return all that the page shows of it. Raises: as `ask`."""
        return {
            "service": self.ask("Service.Inspect"),
            "networks": self.ask("Networks.List")["Networks"],
            "ways": self.ask("Ways.List")["Ways"],
            "flows": self.ask("Flows.List"),
            "events": self.events(),
        }


class Pyvol(Plugin):
    """pyvol. Not its Service.Inspect: that looks into every volume, and freezes each for a moment."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__("pyvol", state_dir)

    def look(self) -> Answer:
        """Return all that the page shows of it. Raises: as `ask`."""
        return {
            "volumes": self.ask("Volumes.Inspect")["Volumes"],
            "snapshots": self.ask("Snapshots.List")["Snapshots"],
            "disk": self.ask("Disk.Inspect"),
            "pools": self.ask("Pools.List")["Pools"],
            "events": self.events(),
        }
