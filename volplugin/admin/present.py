"""How the administrator's commands show what they were answered. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pluginkit.cli import as_json, columns
from volplugin.admin.wire import DiskAnswer, SnapshotInfo
from volplugin.values import rough_size
from volplugin.wire import VolumeInfo


def table(volumes: Sequence[VolumeInfo]) -> str:
    """Return a line a volume. "-": it is not known, because the volume is not mounted, or is the host's directory."""
    rows = [("VOLUME", "BACKEND", "FS", "SIZE", "USED", "ON DISK", "MOUNTS", "HEALTH")]
    rows += [
        (
            volume.Name,
            volume.Status["backend"],
            volume.Status.get("fs", "-"),
            *(_size(volume.Status, key) for key in ("size_bytes", "used_bytes", "allocated_bytes")),
            str(sum(volume.Status.get("mounts", {}).values())),
            volume.Status.get("problem", volume.Status["health"]),
        )
        for volume in volumes
    ]
    return columns(rows)


def snapshots(found: Sequence[SnapshotInfo]) -> str:
    """Return a line a snapshot. SIZE: that of the volume then."""
    rows = [(each.Snapshot, f"{each.CreatedAt:%Y-%m-%d %H:%M:%S}Z", rough_size(each.SizeBytes)) for each in found]
    return columns([("SNAPSHOT", "CREATED", "SIZE"), *rows])


def is_prunable(volume: VolumeInfo) -> bool:
    """Tell whether a volume that no container has may go without a word from whoever made it so."""
    return not any(volume.Status.get(key) for key in ("protected", "snapshots", "mounts"))


def disk(answer: DiskAnswer, volumes: Sequence[VolumeInfo]) -> str:
    """Return the sums that matter when the disk gets full."""
    return columns(
        [
            ("volumes", str(len(volumes))),
            ("size of all", rough_size(_sum(volumes, "size_bytes"))),
            ("on disk", rough_size(_sum(volumes, "allocated_bytes"))),
            ("may still grow by", rough_size(answer.GrowthBytes)),
            ("in the trash", rough_size(answer.TrashBytes)),
            ("disk has available", rough_size(answer.AvailableBytes)),
        ]
    )


def disk_as_json(answer: DiskAnswer, volumes: Sequence[VolumeInfo]) -> str:
    """Return the same as JSON, in bytes."""
    return as_json(
        {
            "volumes": len(volumes),
            "size_bytes": _sum(volumes, "size_bytes"),
            "allocated_bytes": _sum(volumes, "allocated_bytes"),
            "growth_bytes": answer.GrowthBytes,
            "trash_bytes": answer.TrashBytes,
            "available_bytes": answer.AvailableBytes,
        }
    )


def _size(status: dict[str, Any], key: str) -> str:
    return rough_size(status[key]) if key in status else "-"


def _sum(volumes: Sequence[VolumeInfo], key: str) -> int:
    return sum(volume.Status.get(key, 0) for volume in volumes)
