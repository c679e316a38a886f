"""Requests and answers of the administrator's socket about looking after volumes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class CheckRequest:
    """Upkeep.Check. TimeoutSeconds: the most that the check may take."""

    Name: str
    TimeoutSeconds: float


@dataclass(frozen=True)
class CheckAnswer:
    """Verdict: ok, damaged, unclean, changed, unknown, or why it was not checked: mounted, directory."""

    Name: str
    Verdict: str
    Detail: str


@dataclass(frozen=True)
class SetRequest:
    """Upkeep.Set: these options, as with -o; an empty value: as without."""

    Name: str
    Opts: dict[str, str]


@dataclass(frozen=True)
class SetAnswer:
    """AtNextMount: the options that hold when the volume is mounted the next time."""

    AtNextMount: tuple[str, ...]


@dataclass(frozen=True)
class TrashedInfo:
    """One volume in the trash. ID: NAME~TIME. ExpiresAt: when it is deleted for good."""

    ID: str
    TrashedAt: datetime
    ExpiresAt: datetime | None
    SizeBytes: int
    AllocatedBytes: int


@dataclass(frozen=True)
class TrashAnswer:
    """Trash.List: what is in it, the latest of a name last."""

    Trashed: tuple[TrashedInfo, ...]


@dataclass(frozen=True)
class TrashRequest:
    """Trash.Drop: what has this ID, or was last removed of this name."""

    Trashed: str


@dataclass(frozen=True)
class UndeleteRequest:
    """Trash.Undelete. As: the name that it gets; "": the one that it had."""

    Trashed: str
    As: str = ""


@dataclass(frozen=True)
class UndeleteAnswer:
    """The name that the volume has."""

    Name: str
