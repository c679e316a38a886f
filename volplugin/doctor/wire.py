"""Requests and answers of the administrator's socket by which the doctor looks, and heals."""

from __future__ import annotations

from dataclasses import dataclass

from pluginkit.doctor.wire import ReconcileAnswer


@dataclass(frozen=True)
class VolumeFacts:
    """One volume in a file, as it is recorded and as it was found.

    Mounts: how many of each caller ID. FileBytes: None if there is no file. Lost: the device that is on a deleted file
    of that name. State: of the filesystem: ok, unclean, damaged, read-only, frozen. Locked: why its key cannot be read.
    Exposed: its key is one that others may read. Underway: what goes on with it, Unseen: why it could not be looked at;
    then there is no more.
    """

    Name: str
    Image: str
    SizeBytes: int
    Mounts: dict[str, int]
    Underway: str = ""
    FileBytes: int | None = None
    HasDevice: bool = False
    IsMounted: bool = False
    Lost: str = ""
    State: str = "ok"
    Locked: str = ""
    Exposed: bool = False
    LastError: str = ""
    Unseen: str = ""


@dataclass(frozen=True)
class ServiceAnswer:
    """Service.Inspect. Unfinished: records whose last move did not come to its end, as KIND ID.

    Names: of all volumes. Strays: what no record speaks of, as KIND PATH. Due: what should have left the trash.
    Missing: programs that are not installed. DiskBytes: of the disk of the volumes. Overcommit: see `capacity`.
    """

    Version: str
    Unfinished: tuple[str, ...]
    LastReconcile: ReconcileAnswer | None
    Names: tuple[str, ...]
    Volumes: tuple[VolumeFacts, ...]
    Strays: tuple[str, ...]
    Due: tuple[str, ...]
    Missing: tuple[str, ...]
    DiskBytes: int
    AvailableBytes: int
    GrowthBytes: int
    Overcommit: float | None


@dataclass(frozen=True)
class DetachRequest:
    """Volumes.Detach. Mounts: those that it has, as they were seen. Force: also if processes use it."""

    Name: str
    Mounts: dict[str, int]
    Force: bool = False


@dataclass(frozen=True)
class HealRequest:
    """Volumes.Thaw, Volumes.CloseKey."""

    Name: str
