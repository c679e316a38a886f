"""A machine in memory: the fake kernel, engines that come and go, containers, and pyvol's driver on the real store."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from pluginkit.errors import KernelError
from pluginkit.reconcile import Kernel, Resource
from tests.crash.fake_kernel import Death, FakeKernel, Key, Steps
from tests.crash.world import MortalStore
from volplugin.admin.driver import AdminDriver
from volplugin.archive.driver import ArchiveDriver
from volplugin.driver import VolumeDriver
from volplugin.instants.driver import InstantDriver
from volplugin.kernel.upkeep.checking import Checking
from volplugin.options import DEFAULT_SIZE_BYTES
from volplugin.plan import Layout
from volplugin.pools.driver import PoolDriver
from volplugin.records import Attachment, Pool, Snapshot, Trashed, Volume
from volplugin.resources import (
    BackingFile,
    BindMount,
    Filesystem,
    LoopDevice,
    Mount,
    Restoration,
    SnapshotFile,
    SourceDirectory,
    StagedImage,
    TrashedImage,
)
from volplugin.upkeep.driver import UpkeepDriver
from volplugin.volumes import ALL, ATTACHMENT, POOL, SNAPSHOT, TRASH, VOLUME, Policy, Volumes
from volplugin.wire import CreateRequest, MountRequest, VolumeRequest

LAYOUT = Layout(Path("/state/volumes"), Path("/state/mnt"))
POLICY = Policy(DEFAULT_SIZE_BYTES)
RESOURCES = (
    StagedImage,
    TrashedImage,
    BackingFile,
    Filesystem,
    SnapshotFile,
    Restoration,
    LoopDevice,
    SourceDirectory,
    Mount,
    BindMount,
)
LASTING = (TrashedImage, BackingFile, Filesystem, SnapshotFile, Restoration, SourceDirectory)


def needs(resource: Resource) -> Iterable[Key]:
    """What must exist for `resource` to exist."""
    match resource:
        case Filesystem():
            return [("backing file", str(resource.path.parent))]
        case SnapshotFile():
            return [("filesystem", str(resource.origin.path))] if resource.may_create else []
        case Restoration():
            return [("filesystem", str(resource.path))]
        case LoopDevice():
            return [("filesystem", str(resource.path))]
        case Mount():
            return [("loop device", str(resource.path))]
        case BindMount():
            return [("source directory", str(resource.source))]
    return []


class VolumeKernel(FakeKernel):
    """The fake kernel, which has this much of a backing file's nature: it may be made only while the volume is new."""

    def ensure(self, want: Resource) -> None:
        if isinstance(want, BackingFile) and want.key not in self.objects and not (want.may_create or want.trash):
            raise KernelError("use", str(want.path), errno.ENOENT)
        super().ensure(want)


class Unlisted:
    """A kernel module that never lists what it has: a finished file may be all that is left of somebody's data."""

    def __init__(self, kernel: Kernel) -> None:
        self.ensure = kernel.ensure
        self.remove = kernel.remove

    def owned(self) -> tuple[Resource, ...]:
        return ()


class Machine:
    """One host. `engine` is the engine process that calls, until `kill_engine` puts a new one in its place."""

    def __init__(self, root: Path) -> None:
        self._file = root / "pyvol.db"
        self.steps = Steps()
        self.kernel = VolumeKernel(self.steps, needs)
        self.engine = "engine-1"
        self.running = {self.engine}
        self.containers: dict[str, str] = {}
        self.asked = 0
        self.disk_bytes = 1 << 50
        self.allocated_bytes = 0
        self.reflinks = False
        self.lost = False
        self.trash = timedelta()
        self._starts = 0
        self.now: datetime | None = None
        self.start()

    def start(self) -> None:
        """The plugin runs and has reconciled."""
        self.store = MortalStore(self._file, ALL, self.steps)
        kernels = dict(self.kernel.kernels(RESOURCES))
        for lasting in LASTING:
            kernels[lasting] = Unlisted(kernels[lasting])
        self.running.discard(f"pyvol-{self._starts}")
        self._starts += 1
        self.running.add(own := f"pyvol-{self._starts}")
        policy = replace(POLICY, trash=self.trash)
        volumes = Volumes(self.store, LAYOUT, kernels, self, policy, self.running.__contains__, lambda: own)
        self.driver = VolumeDriver(volumes, engine=lambda: self.engine)
        self.admin = AdminDriver(volumes, self.driver.locks, self, self.clock)
        self.archives = ArchiveDriver(volumes, self.driver.locks)
        self.instants = InstantDriver(volumes, self.driver.locks, self, self.admin, self.clock)
        self.pools = PoolDriver(volumes, self.driver.locks)
        self.upkeep = UpkeepDriver(volumes, self.driver.locks, Checking())
        self.driver.reconcile()

    def clock(self) -> datetime:
        return self.now or datetime.now(UTC)

    def restart(self) -> None:
        """The plugin was killed and runs again."""
        self.store.close()
        self.steps.disarm()
        self.start()

    def deaths(self, verb: Callable[[Machine], None], *before: Callable[[Machine], None], least: int) -> Iterator[None]:
        """Yield after each death of the plugin in `verb`, at its first step, its second and so on, once it runs again.

        before: what is done each time first; whoever iterates has cleared away what was there. What `verb` does when it
        does not die any more is still there at the end, of which there were `least` deaths, or it fails.
        """
        for step in count(1):
            for earlier in before:
                earlier(self)
            self.steps.arm(step, fatal=True)
            try:
                verb(self)
            except Death:
                self.restart()
                self.is_settled()
                yield
            else:
                self.steps.disarm()
                assert step > least, "too few steps to have been the whole of it"
                return

    def reboot(self) -> None:
        """The machine was rebooted, and everything runs again."""
        self.store.close()
        with sqlite3.connect(self._file) as connection:
            connection.execute("UPDATE fact SET value = 'an earlier boot'")
        connection.close()
        lasting = (BackingFile, Filesystem, SnapshotFile)
        self.kernel.objects = {key: have for key, have in self.kernel.objects.items() if isinstance(have, lasting)}
        self.containers.clear()
        self.kill_engine()
        self.start()

    def kill_engine(self) -> None:
        """The engine was killed and another one runs; containers are as they were."""
        self.running.discard(self.engine)
        self.engine = f"engine-{int(self.engine.rpartition('-')[2]) + 1}"
        self.running.add(self.engine)

    # What the driver asks of the machine.

    def holders(self, mount: Mount | BindMount) -> list[str]:
        self.asked += 1
        return [f"container {name}" for name, volume in self.containers.items() if volume == mount.target.name]

    def space(self, mount: Mount | BindMount) -> dict[str, int | bool]:
        if isinstance(mount, Mount) and ("filesystem", str(mount.path)) not in self.kernel.objects:
            raise KernelError("look at", str(mount.path), errno.ENOENT)
        return {}

    def is_there(self, disk: Path) -> bool:
        return ("mount", str(disk.parent)) in self.kernel.objects

    def is_lost(self, disk: Path) -> bool:
        return self.lost

    def is_taken(self, mount: Mount | BindMount) -> bool:
        return isinstance(mount, Mount) and ("filesystem", str(mount.path)) in self.kernel.objects

    def available(self, disk: Path) -> int:
        return self.disk_bytes

    def allocated(self, mount: Mount | BindMount) -> int:
        return self.allocated_bytes

    def check_key(self, mount: Mount | BindMount) -> None:
        """Keys are for the real kernel."""

    def has_reflinks(self, disk: Path) -> bool:
        return self.reflinks

    def trim(self, mount: Mount) -> int:
        self.steps.take(KernelError("trim", str(mount.target), errno.EIO))
        assert mount.key in self.kernel.objects
        return 0

    def shrink(self, mount: Mount, size: int) -> None:
        self.steps.take(KernelError("shrink", str(mount.target), errno.EIO))
        assert mount.key in self.kernel.objects

    @contextmanager
    def together(self, targets: Sequence[Path], timeout_s: float) -> Iterator[None]:
        error = KernelError("freeze", " ".join(map(str, targets)), errno.EIO)
        self.steps.take(error)
        yield
        self.steps.take(error)

    def volumes(self, disk: Path) -> list[str]:
        return [
            have.path.parent.name
            for have in self.kernel.objects.values()
            if isinstance(have, Filesystem) and have.path.parents[1] == disk
        ]

    # The engine's verbs, in short.

    def create(self, name: str, **options: str) -> None:
        self.driver.create(CreateRequest(name, options))

    def mount(self, name: str, caller_id: str) -> str:
        return self.driver.mount(MountRequest(name, caller_id)).Mountpoint

    def unmount(self, name: str, caller_id: str) -> None:
        self.driver.unmount(MountRequest(name, caller_id))

    def remove(self, name: str) -> None:
        self.driver.remove(VolumeRequest(name))

    def status(self, name: str) -> dict[str, Any]:
        return self.driver.get(VolumeRequest(name)).Volume.Status

    def names(self) -> list[str]:
        return [volume.Name for volume in self.driver.list().Volumes]

    def is_mounted(self, name: str) -> bool:
        return ("mount", f"/state/mnt/{name}") in self.kernel.objects

    def is_settled(self) -> None:
        """Assert that no move is pending and that the kernel is what the records mean: no less, and no more."""
        volumes: dict[str, Volume] = {}
        wanted: list[Resource] = []
        for pool in self.store.rows(POOL):
            assert isinstance(pool.current, Pool)
            assert pool.current.created_at is not None
            assert not pool.pending
            wanted += LAYOUT.plan_pool(pool.current, None)
        for row in self.store.rows(VOLUME):
            assert row.current is not None
            assert row.current.created_at is not None
            assert not row.pending
            volumes[row.id] = row.current
            wanted += LAYOUT.plan_volume(row.current, None)
        for snapshot in self.store.rows(SNAPSHOT):
            assert isinstance(snapshot.current, Snapshot)
            assert snapshot.current.created_at is not None
            assert not snapshot.pending
            wanted += LAYOUT.plan_snapshot(snapshot.current, volumes[snapshot.parent])
        for attached in self.store.rows(ATTACHMENT):
            assert isinstance(attached.current, Attachment)
            assert not attached.pending
            wanted += LAYOUT.plan_attachment(attached.current, volumes[attached.parent])
        for trashed in self.store.rows(TRASH):
            assert isinstance(trashed.current, Trashed)
            assert not trashed.pending
            wanted += LAYOUT.plan_trashed(trashed.current, None)
        assert self.kernel.objects == {want.key: want for want in wanted}
        assert self.names() == sorted(volumes)
