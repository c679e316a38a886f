"""How the use of volumes has changed since the console was started."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

# One a minute, for a day.
APART_S, KEPT = 60.0, 24 * 60
# As many as a line of that width has room for.
_SHOWN = 60


class Sample(NamedTuple):
    """The bytes that were used at a time, in seconds."""

    at_s: float
    used: int


class Growth:
    """What is remembered of each volume that there is."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[Sample]] = {}

    def note(self, at_s: float, used: Mapping[str, int]) -> None:
        """These volumes use so much now; those that are not named are forgotten. What comes too soon is left out."""
        for name in self._samples.keys() - used.keys():
            del self._samples[name]
        for name, size in used.items():
            kept = self._samples.setdefault(name, deque(maxlen=KEPT))
            if not kept or at_s - kept[-1].at_s >= APART_S:
                kept.append(Sample(at_s, size))

    def of(self, name: str) -> tuple[list[int], int, float]:
        """Return at most 60 sizes, the oldest first, by how much the last is larger, and over how many seconds."""
        kept = list(self._samples.get(name, ()))
        if not kept:
            return [], 0, 0.0
        step = max(1, -(-len(kept) // _SHOWN))
        # Counted from the last, which is always shown.
        shown = [sample.used for sample in kept[::-1][::step]][::-1]
        return shown, kept[-1].used - kept[0].used, kept[-1].at_s - kept[0].at_s
