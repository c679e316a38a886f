"""How etcd fares, as this host sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Health:
    """answered: when it last did, None: never yet. took_s: how long that took.

    failure: why what happens there is not followed, "": it is. ahead_s: how far the clock of the member that answered
    is before this host's, to about a second. What is measured is how a host stays alive there, every few seconds.
    """

    answered: datetime | None = None
    took_s: float = 0.0
    failure: str = ""
    ahead_s: int = 0
