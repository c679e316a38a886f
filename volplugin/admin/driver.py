"""The verbs of the administrator's socket. Like those of the engine, each is a move from one record to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from pluginkit.errors import BadRequest, Conflict
from pluginkit.locks import Locks
from pluginkit.server import Method, bound
from volplugin.admin.wire import (
    DiskAnswer,
    InspectAnswer,
    InspectRequest,
    ProtectRequest,
    ResizeAnswer,
    ResizeRequest,
    SnapshotInfo,
    SnapshotRequest,
    SnapshotsAnswer,
    SnapshotsRequest,
    TrimAnswer,
    TrimRequest,
)
from volplugin.options import Loop, parse_options
from volplugin.records import Attachment, Restoring, Snapshot, Volume, parse_name, parse_snapshot_id
from volplugin.resources import Mount
from volplugin.upkeep.trash import Trash
from volplugin.values import format_size
from volplugin.volumes import Volumes, not_found
from volplugin.wire import VolumeInfo


class MountedFilesystems(Protocol):
    """What is done to filesystems while they are mounted."""

    def trim(self, mount: Mount) -> int:
        """Return the bytes that came free on the host's disk. Raises: KernelError."""

    def shrink(self, mount: Mount, size: int) -> None:
        """The btrfs ends before `size` bytes. Raises: Exhausted: it cannot, and is as it was."""


class AdminDriver:
    """What only the administrator may ask of the volumes. locks: those of the engine's driver."""

    def __init__(
        self,
        volumes: Volumes,
        locks: Locks,
        mounted: MountedFilesystems,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._volumes = volumes
        self._mounted = mounted
        self._locks = locks
        self._now = now

    def methods(self) -> tuple[Method, ...]:
        """Return every method, as this driver answers it."""
        return bound(METHODS, self)

    def inspect(self, request: InspectRequest) -> InspectAnswer:
        """Return the volumes of these names, or all, with everything that can be known of them."""
        names = request.Names or tuple(sorted(self._volumes.told))
        return InspectAnswer(tuple(self._info(self._volumes.told_of(name)) for name in names))

    def inspect_disk(self) -> DiskAnswer:
        """Return how full the disk is, and could become."""
        return DiskAnswer(
            self._volumes.usage.available(self._volumes.layout.disk("")),
            self._volumes.growth(),
            Trash(self._volumes).taken(),
        )

    def trim(self, request: TrimRequest) -> TrimAnswer:
        """Space that deleted files took is free on the host's disk, also of a volume that is not mounted.

        Raises: NotFound; BadRequest: the volume is to stay allocated, or read-only, or the host's directory.
        """
        name = parse_name(request.Name)
        with self._locks.hold(name), self._volumes.remembering(name):
            volume, loop = self._loop(name, "trim")
            if not loop.sparse or loop.ro:
                why = "ro=true" if loop.ro else "sparse=false, so it stays allocated"
                raise BadRequest(f"cannot trim {name}: it has {why}")
            self._volumes.underway.check_idle("trim", name)
            mount = self._volumes.layout.mount(volume)
            assert isinstance(mount, Mount)
            with self._volumes.busy(volume, f"{name} is being trimmed"), self._locks.lend(name):
                return TrimAnswer(self._mounted.trim(mount))

    def protect(self, request: ProtectRequest) -> None:
        """What is in the volume cannot be removed or replaced, or can again. Raises: NotFound."""
        name = parse_name(request.Name)
        with self._locks.hold(name), self._volumes.remembering(name):
            volume = self._volumes.known(name)
            if volume is None:
                raise not_found(name)
            self._volumes.underway.check_unmoved("protect", name)
            self._volumes.change(replace(volume, protected=request.Protected))

    def list_snapshots(self, request: SnapshotsRequest) -> SnapshotsAnswer:
        """Return the snapshots of these volumes, or all."""
        names = request.Volumes or tuple(sorted(self._volumes.told))
        found = [
            SnapshotInfo(snapshot.id, snapshot.created_at, snapshot.size)
            for name in names
            for snapshot in self._volumes.snapshots(self._volumes.told_of(name).name)
            if snapshot.created_at
        ]
        return SnapshotsAnswer(tuple(found))

    def create_snapshot(self, request: SnapshotRequest) -> None:
        """There is a snapshot of that name, of the volume as it was at an instant of this call.

        Raises: NotFound; Conflict: there was one already; BadRequest, KernelError, Exhausted: it cannot be made.
        """
        name, snapshot_name = parse_snapshot_id(request.Snapshot)
        with self._locks.hold(name), self._volumes.remembering(name):
            volume, loop = self._loop(name, "take a snapshot of")
            if any(snapshot.name == snapshot_name for snapshot in self._volumes.snapshots(name)):
                raise Conflict(f"cannot make the snapshot {request.Snapshot}: it exists; give another name")
            snapshot = Snapshot(name, snapshot_name, loop.size, None, request.Transient, request.Scheduled)
            self._volumes.underway.check_idle("take a snapshot of", name)
            move, planned = self._volumes.reconciler.transition, self._volumes.snapshots_planned
            # What an earlier attempt left unfinished is of another instant.
            move(planned, snapshot.id, None)
            # With reflinks it takes nothing at first. But all of it may be written anew in the volume.
            allocated = self._volumes.usage.allocated(self._volumes.layout.mount(volume))
            with (
                self._volumes.admitted(volume, allocated),
                self._volumes.copied(volume, snapshot.id, lambda: self._locks.lend(name)) as aside,
            ):
                # Two moves: a snapshot that may be made, and one that has been made and never may be again.
                move(planned, snapshot.id, snapshot, parent=name, aside=aside)
                move(planned, snapshot.id, replace(snapshot, created_at=self._now().replace(microsecond=0)))

    def remove_snapshot(self, request: SnapshotRequest) -> None:
        """The snapshot does not exist. Raises: NotFound: it never did."""
        name, snapshot_name = parse_snapshot_id(request.Snapshot)
        with self._locks.hold(name), self._volumes.remembering(name):
            self._loop(name, "remove a snapshot of")
            snapshot = self._volumes.snapshot(name, snapshot_name)
            self._volumes.underway.check_idle("remove", snapshot.id)
            self._volumes.reconciler.transition(self._volumes.snapshots_planned, snapshot.id, None)

    def restore(self, request: SnapshotRequest) -> None:
        """In the volume is what was in it when the snapshot was taken; what came later is lost, as was asked for.

        Raises: NotFound; Conflict: the volume is mounted, or protected, or smaller than it was.
        """
        name, snapshot_name = parse_snapshot_id(request.Snapshot)
        with self._locks.hold(name), self._volumes.remembering(name):
            volume, loop = self._loop(name, "restore")
            snapshot = self._volumes.snapshot(name, snapshot_name)
            self._volumes.check_unprotected(volume, "restore")
            self._volumes.underway.check_idle("restore", name)
            self._volumes.check_unused(volume, "", "restore")
            if snapshot.size > loop.size:
                raise Conflict(
                    f"cannot restore {request.Snapshot}: {name} was larger then; first: pyvol resize {name}"
                    f" {format_size(snapshot.size)}"
                )
            self._volumes.attach(name, Attachment())
            # Two moves: one in which the content is replaced, and the rest of the volume's life, in which it is not.
            token = f"{snapshot.name} {datetime.now(UTC).isoformat()}"
            with self._volumes.underway.doing(f"{snapshot.id} is being restored", (name,), (snapshot.id,)):
                restoring = replace(volume, restoring=Restoring(snapshot.name, token))
                self._volumes.change(restoring, aside=lambda: self._locks.lend(name))
                self._volumes.change(replace(volume, restoring=None))

    def _loop(self, name: str, operation: str) -> tuple[Volume, Loop]:
        """Return the volume and its options. Raises: NotFound; BadRequest: it is a directory of the host."""
        volume = self._volumes.known(name)
        if volume is None:
            raise not_found(name)
        if not isinstance(volume.options, Loop):
            raise BadRequest(f"cannot {operation} {name}: it is a directory of the host")
        return volume, volume.options

    def resize(self, request: ResizeRequest) -> ResizeAnswer:
        """The volume has that size; what is in it has not changed.

        Raises: NotFound; BadRequest: it cannot have that size; Exhausted: the disk, or what is in the volume, forbids
        it; Conflict: it is mounted and would have to shrink.
        """
        name = parse_name(request.Name)
        with self._locks.hold(name), self._volumes.remembering(name):
            volume, old = self._loop(name, "resize")
            self._volumes.underway.check_idle("resize", name)
            new = parse_options({"size": request.Size}, old.size, old)
            assert isinstance(new, Loop)
            if new.size < old.size:
                self._shrink(volume, new)
            else:
                # Also if the size is the same: what could not be done then may be possible now.
                with self._volumes.admitted(replace(volume, options=new), new.size - old.size):
                    self._volumes.change(replace(volume, options=new, shrinking=False))
                self._volumes.attach(name, self._volumes.attachment(name))
            status = self._volumes.full_status(volume)
            return ResizeAnswer(new.size, bool(status.get("grows_at_next_mount")))

    def _shrink(self, volume: Volume, new: Loop) -> None:
        if new.fs == "xfs":
            raise BadRequest(
                f"cannot shrink {volume.name}: {new.fs} cannot be made smaller; copy the files to a new volume"
            )
        self._volumes.check_unused(volume, "", "shrink")
        self._volumes.attach(volume.name, Attachment())
        if new.fs == "btrfs":
            mount = self._volumes.layout.mount(volume)
            assert isinstance(mount, Mount)
            # If this is as far as we get, the filesystem is smaller than its file, and grows again at its next mount.
            what = f"{volume.name} is being made smaller"
            with self._volumes.busy(volume, what, (volume.name,)), self._locks.lend(volume.name):
                self._mounted.shrink(mount, new.size)
            self._volumes.change(replace(volume, options=new))
            return
        # Two moves: one in which the content may be made smaller, and the rest of the volume's life, in which not.
        with self._volumes.underway.doing(f"{volume.name} is being made smaller", (volume.name,)):
            shrinking = replace(volume, options=new, shrinking=True)
            self._volumes.change(shrinking, aside=lambda: self._locks.lend(volume.name))
            self._volumes.change(replace(volume, options=new, shrinking=False))

    def _info(self, volume: Volume) -> VolumeInfo:
        assert volume.created_at is not None
        mountpoint = self._volumes.layout.mountpoint(volume)
        return VolumeInfo(volume.name, mountpoint, volume.created_at, self._volumes.full_status(volume))


METHODS = (
    Method("Volumes.Inspect", InspectRequest, AdminDriver.inspect),
    Method("Volumes.Resize", ResizeRequest, AdminDriver.resize),
    Method("Volumes.Trim", TrimRequest, AdminDriver.trim),
    Method("Volumes.Protect", ProtectRequest, AdminDriver.protect),
    Method("Snapshots.Create", SnapshotRequest, AdminDriver.create_snapshot),
    Method("Snapshots.List", SnapshotsRequest, AdminDriver.list_snapshots),
    Method("Snapshots.Remove", SnapshotRequest, AdminDriver.remove_snapshot),
    Method("Snapshots.Restore", SnapshotRequest, AdminDriver.restore),
    Method("Disk.Inspect", None, AdminDriver.inspect_disk),
)
