"""Every request and answer of the administrator's socket. What speaks it is released together with what answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from volplugin.wire import VolumeInfo


@dataclass(frozen=True)
class InspectRequest:
    """Volumes.Inspect: these volumes, or all if none are named."""

    Names: tuple[str, ...] = ()


@dataclass(frozen=True)
class InspectAnswer:
    """The volumes, each with everything that can be known of it."""

    Volumes: tuple[VolumeInfo, ...]


@dataclass(frozen=True)
class DiskAnswer:
    """Disk.Inspect: what the disk of the volumes has available, by what volumes may grow, what the trash takes."""

    AvailableBytes: int
    GrowthBytes: int
    TrashBytes: int


@dataclass(frozen=True)
class ResizeRequest:
    """Volumes.Resize. Size: as with -o size."""

    Name: str
    Size: str


@dataclass(frozen=True)
class ResizeAnswer:
    """The size that the volume has; AtNextMount: that its files will have when it is mounted the next time."""

    SizeBytes: int
    AtNextMount: bool


@dataclass(frozen=True)
class ProtectRequest:
    """Volumes.Protect. Protected: from now on, or no more."""

    Name: str
    Protected: bool


@dataclass(frozen=True)
class TrimRequest:
    """Volumes.Trim."""

    Name: str


@dataclass(frozen=True)
class TrimAnswer:
    """The bytes that came free on the host's disk."""

    FreedBytes: int


@dataclass(frozen=True)
class SnapshotRequest:
    """Snapshots.Create, Remove, Restore. Snapshot: VOLUME@NAME. Transient: whoever asks opens it at once.

    Scheduled: a schedule asks.
    """

    Snapshot: str
    Transient: bool = False
    Scheduled: bool = False


@dataclass(frozen=True)
class SnapshotsRequest:
    """Snapshots.List: those of these volumes, or of all if none are named."""

    Volumes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SnapshotInfo:
    """One snapshot, as VOLUME@NAME. SizeBytes: of the volume then."""

    Snapshot: str
    CreatedAt: datetime
    SizeBytes: int


@dataclass(frozen=True)
class SnapshotsAnswer:
    """Snapshots, by volume, the oldest first."""

    Snapshots: tuple[SnapshotInfo, ...]
