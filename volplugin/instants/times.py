"""When a schedule takes a snapshot, and which of its snapshots it keeps. Pure.

A schedule is spans of time, each longer than the one before: 4h:1d:2w takes a snapshot every 4 hours and keeps each for
a day; of older ones it keeps one a day, for two weeks. With 4h:1d:2w:1y it then keeps one in two weeks, for a year.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from pluginkit.errors import BadRequest

_SPAN = re.compile(r"([1-9][0-9]{0,4})([mhdwy])", re.ASCII)
_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Schedule = tuple[timedelta, ...]


def parse_schedule(text: str) -> Schedule:
    """Return the spans in `text`. Raises: BadRequest."""
    found = [_SPAN.fullmatch(word) for word in text.split(":")]
    spans = tuple(int(match[1]) * _UNITS[match[2]] for match in found if match)
    longer = all(one < other for one, other in pairwise(spans))
    if len(spans) != len(found) or len(spans) < 2 or not longer:
        raise BadRequest(
            f"cannot use {text[:80]!r} as a schedule: it takes two or more spans of time in minutes (m), hours (h),"
            " days (d), weeks (w) or years (y), each longer than the one before, such as 4h:1d:2w"
        )
    return spans


def is_due(schedule: Schedule, taken: Iterable[datetime], now: datetime) -> bool:
    """Tell whether it is time for a snapshot. However many were missed, one makes up for them."""
    # Those of a clock that was set back meanwhile do not count.
    latest = max((time for time in taken if time <= now), default=None)
    return latest is None or now - latest >= schedule[0]


def expired(schedule: Schedule, taken: Iterable[datetime], now: datetime) -> set[datetime]:
    """Return those that need not be kept any more."""
    kept: set[tuple[timedelta, int]] = set()
    gone = set()
    # The oldest of each span is kept: the next ones come beside it as they get as old.
    for time in sorted(taken):
        age = now - time
        if age >= schedule[-1]:
            gone.add(time)
        elif age >= schedule[1]:
            width = max(span for span in schedule if span <= age)
            place = (width, (time - _EPOCH) // width)
            if place in kept:
                gone.add(time)
            kept.add(place)
    return gone
