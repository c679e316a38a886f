"""What the commands of groups and schedules ask on the administrator's socket."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GroupRequest:
    """Snapshots.CreateGroup. Snapshots: VOLUME@NAME each. WithinSeconds: containers wait no longer than that."""

    Snapshots: tuple[str, ...]
    WithinSeconds: float


@dataclass(frozen=True)
class GroupAnswer:
    """How long containers that write had to wait, in milliseconds."""

    FrozenMs: int


@dataclass(frozen=True)
class ScheduleRequest:
    """Schedules.Set. Schedule: as 4h:1d:2w; "": none from now on."""

    Name: str
    Schedule: str
