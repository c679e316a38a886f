"""The verbs by which the doctor looks at volumes, and heals them. No engine is asked here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from pluginkit.doctor.wire import ReconcileAnswer, just_reconciled
from pluginkit.errors import Conflict, KernelError, NotFound, PluginError, Unavailable
from pluginkit.locks import Locks
from pluginkit.reconcile import Outcome
from pluginkit.server import Method, bound
from volplugin.doctor.wire import DetachRequest, HealRequest, ServiceAnswer, VolumeFacts
from volplugin.options import Loop
from volplugin.records import Volume, parse_name
from volplugin.resources import KeySource, Mount
from volplugin.upkeep.trash import Trash
from volplugin.volumes import ALL, POOL, SNAPSHOT, TRASH, VOLUME, Volumes, not_found

_PACKAGE = "pynet-pyvol"


class Looked(Protocol):
    """What was found of a volume: see `VolumeFacts`."""

    @property
    def file_bytes(self) -> int | None:
        """The size of its file, if there is one."""

    @property
    def has_device(self) -> bool:
        """Whether a loop device is on the file."""

    @property
    def is_mounted(self) -> bool:
        """Whether that is mounted where it should be."""

    @property
    def lost(self) -> str:
        """The device that is on a deleted file of that name."""

    @property
    def state(self) -> str:
        """How the filesystem is."""


class Looking(Protocol):
    """What is asked of the kernel and the disk."""

    def look(self, mount: Mount) -> Looked:
        """Return what there is of the volume. Raises: KernelError."""

    def strays(self, images: set[Path], mounted: set[Path]) -> Iterator[str]:
        """Yield what else there is, as KIND PATH: beside these files, and devices and mounts of other volumes."""

    def missing(self, filesystems: set[str]) -> tuple[str, ...]:
        """Return the programs that are not installed and that such filesystems need."""

    def disk_bytes(self) -> int:
        """Return the size of the disk of the volumes. Raises: KernelError."""

    def is_exposed(self, source: KeySource) -> bool:
        """Tell whether there is a key that others may read."""

    def close_key(self, source: KeySource) -> None:
        """Nobody but its owner may read it. Raises: KernelError."""

    def thaw(self, mount: Mount) -> None:
        """The filesystem is not frozen. Raises: KernelError."""


class DoctorDriver:
    """What the doctor is told, and tells pyvol to do. locks: those of the engine's driver.

    reconcile: puts the kernel right, and calls `reconciled`.
    """

    def __init__(self, volumes: Volumes, locks: Locks, looking: Looking, reconcile: Callable[[], None]) -> None:
        self._volumes = volumes
        self._locks = locks
        self._looking = looking
        self._reconcile = reconcile
        self._last: ReconcileAnswer | None = None

    def methods(self) -> tuple[Method, ...]:
        """Return every method, as this driver answers it."""
        return bound(METHODS, self)

    def reconciled(self, outcome: Outcome) -> None:
        """This is what the last reconcile did."""
        self._last = just_reconciled(outcome)

    def reconcile(self) -> ReconcileAnswer | None:
        """Records and kernel agree; return what that took."""
        self._reconcile()
        return self._last

    def inspect(self) -> ServiceAnswer:
        """Return what is on record, and what there is. A volume that somebody works on is not looked at."""
        volumes = [volume for _, volume in sorted(self._volumes.told.items())]
        images, mounted = self._images(), self._mounted()
        strays = set(self._looking.strays(images, mounted))
        # What came meanwhile is on record by now.
        strays &= set(self._looking.strays(images | self._images(), mounted | self._mounted()))
        return ServiceAnswer(
            Version=version(_PACKAGE),
            Unfinished=tuple(self._unfinished()),
            LastReconcile=self._last,
            Names=tuple(volume.name for volume in volumes),
            Volumes=tuple(facts for volume in volumes if (facts := self._facts(volume.name)) is not None),
            Strays=tuple(sorted(strays)),
            Due=tuple(trashed.id for trashed in Trash(self._volumes).due()),
            Missing=self._looking.missing(self._filesystems()),
            DiskBytes=self._looking.disk_bytes(),
            AvailableBytes=self._volumes.usage.available(self._volumes.layout.disk("")),
            GrowthBytes=self._volumes.growth(),
            Overcommit=self._volumes.policy.overcommit.ratio,
        )

    def detach(self, request: DetachRequest) -> None:
        """Nobody has the volume, and it is not mounted.

        Raises: NotFound; Conflict: others have it than were seen, or a container has it mounted: it is as it was;
        ExceptionGroup: a process uses it, and that is not to be passed over.
        """
        name = parse_name(request.Name)
        with self._locks.hold(name), self._volumes.remembering(name):
            volume = self._volumes.known(name)
            if volume is None:
                raise not_found(name)
            self._volumes.underway.check_idle("detach", name)
            callers = self._volumes.attachment(name).callers
            if callers != request.Mounts:
                have = "; ".join(f"caller {caller_id}" for caller_id in callers) or "nobody"
                raise Conflict(
                    f"cannot detach {name}: it is mounted for {have}; end the containers, or if they are gone: pyvol"
                    " doctor --fix"
                )
            mount = self._volumes.layout.mount(volume)
            # A directory of the host is in use by others who never heard of us.
            if isinstance(mount, Mount) and (holders := self._volumes.usage.holders(mount)):
                raise Conflict(f"cannot detach {name}: it is in use: {'; '.join(holders)}")
            self._volumes.detach(name, lazy=request.Force)

    def thaw(self, request: HealRequest) -> None:
        """Who writes to the volume does not wait any more. Raises: NotFound; Conflict: a copy is made of it."""
        name = parse_name(request.Name)
        with self._locks.hold(name):
            _, mount = self._loop(name)
            self._volumes.underway.check_idle("thaw", name)
            self._looking.thaw(mount)

    def close_key(self, request: HealRequest) -> None:
        """Only its owner may read the key of the volume. Raises: NotFound; KernelError."""
        name = parse_name(request.Name)
        with self._locks.hold(name):
            _, mount = self._loop(name)
            if mount.key_source is not None:
                self._looking.close_key(mount.key_source)

    def _unfinished(self) -> Iterator[str]:
        kinds: tuple[Any, ...] = ALL
        moving = [(kind, row) for kind in kinds for row in self._volumes.store.rows(kind) if row.pending]
        for kind, row in moving:
            # Whoever moves it just now has the lock.
            with suppress(Unavailable), self._locks.hold(row.parent or row.id):
                now = self._volumes.store.get(kind, row.id)
                if now is not None and now.pending and row.id not in self._volumes.underway.ids():
                    yield f"{kind.name} {row.id}"

    def _facts(self, name: str) -> VolumeFacts | None:
        try:
            with self._locks.hold(name):
                volume, mount = self._loop(name)
                assert isinstance(volume.options, Loop)
                callers = self._volumes.attachment(name).callers
                status = self._volumes.status(volume)
                known = VolumeFacts(name, str(mount.path), volume.options.size, callers, status.get("underway", ""))
                try:
                    return known if known.Underway else self._look(known, mount, status.get("last_error", ""))
                except KernelError as exc:
                    return replace(known, Unseen=str(exc))
        # It is gone by now, or something goes on with it that takes long.
        except (NotFound, Unavailable):
            return None

    def _look(self, known: VolumeFacts, mount: Mount, last_error: str) -> VolumeFacts:
        locked = ""
        try:
            self._volumes.usage.check_key(mount)
        except PluginError as exc:
            locked = str(exc)
        looked = self._looking.look(mount)
        return replace(
            known,
            FileBytes=looked.file_bytes,
            HasDevice=looked.has_device,
            IsMounted=looked.is_mounted,
            Lost=looked.lost,
            State=looked.state,
            Locked=locked,
            Exposed=mount.key_source is not None and self._looking.is_exposed(mount.key_source),
            LastError=last_error,
        )

    def _loop(self, name: str) -> tuple[Volume, Mount]:
        """Return the volume and its mount. Raises: NotFound: there is none in a file of that name."""
        volume = self._volumes.known(name)
        mount = self._volumes.layout.mount(volume) if volume is not None else None
        if volume is None or not isinstance(mount, Mount):
            raise not_found(name)
        return volume, mount

    def _images(self) -> set[Path]:
        """Return the files of all that is on record, settled or not."""
        layout, store = self._volumes.layout, self._volumes.store
        found = {mount.path for mount in self._pool_mounts()}
        where = {}
        for row in store.rows(VOLUME):
            for volume in (row.current, row.next):
                if volume is not None and isinstance(volume.options, Loop):
                    mount = layout.mount(volume)
                    assert isinstance(mount, Mount)
                    found.add(mount.path)
                    where[row.id] = (mount.fs, volume.options.pool)
        for snapshot in store.rows(SNAPSHOT):
            name = snapshot.id.partition("@")[2]
            if snapshot.parent in where:
                found.add(layout.snapshot_path(snapshot.parent, name, *where[snapshot.parent]))
        for trashed in store.rows(TRASH):
            kept = trashed.current or trashed.next
            if kept is not None and isinstance(kept.volume.options, Loop):
                found.add(layout.trashed_path(trashed.id, kept.volume.options.fs, kept.volume.options.pool))
        return found

    def _filesystems(self) -> set[str]:
        """Return the kinds of filesystems that there are."""
        volumes, pools = tuple(self._volumes.told.values()), tuple(self._volumes.pools.values())
        return {each.options.fs for each in volumes if isinstance(each.options, Loop)} | {pool.fs for pool in pools}

    def _pool_mounts(self) -> list[Mount]:
        """Return the mounts of the pools, which are always there, settled or not."""
        rows = self._volumes.store.rows(POOL)
        pools = [pool for row in rows for pool in (row.current, row.next) if pool is not None]
        return [self._volumes.layout.pool_mount(pool) for pool in pools]

    def _mounted(self) -> set[Path]:
        """Return the files and mount points of what somebody has, settled or not."""
        found = {path for mount in self._pool_mounts() for path in (mount.path, mount.target)}
        for name in tuple(self._volumes.told):
            volume = self._volumes.known(name)
            if volume is not None and self._volumes.is_attached(name):
                mount = self._volumes.layout.mount(volume)
                found |= {mount.target, mount.path} if isinstance(mount, Mount) else {mount.target}
        return found


METHODS = (
    Method("Service.Inspect", None, DoctorDriver.inspect),
    Method("Service.Reconcile", None, DoctorDriver.reconcile),
    Method("Volumes.Detach", DetachRequest, DoctorDriver.detach),
    Method("Volumes.Thaw", HealRequest, DoctorDriver.thaw),
    Method("Volumes.CloseKey", HealRequest, DoctorDriver.close_key),
)
