"""Request and lines of Events.Follow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class FollowRequest:
    """Events.Follow. After: those with higher numbers. Follow: also those that are still to come."""

    After: int = 0
    Follow: bool = True


@dataclass(frozen=True)
class Event:
    """Something happened. Number: counts from 1 since the plugin has started; a gap is what was forgotten.

    Kind: as docs/operating.md lists them. ID: of what it happened to, Of: of what that is a part of; "": of nothing.
    Text: the rest, for people.
    """

    Number: int
    At: datetime
    Kind: str
    ID: str
    Of: str
    Text: str
