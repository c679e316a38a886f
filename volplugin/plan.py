"""What a record means to the kernel. Pure: the same record gives the same resources, always."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pluginkit.reconcile import Resource
from volplugin.options import Bind, Loop
from volplugin.records import Attachment, Pool, Snapshot, Trashed, Volume
from volplugin.resources import (
    POOL_MOUNTS,
    POOLS,
    STAGED,
    BackingFile,
    BindMount,
    Filesystem,
    KeySource,
    LoopDevice,
    Mount,
    Origin,
    Owner,
    Restoration,
    SnapshotFile,
    SourceDirectory,
    StagedImage,
    TrashedImage,
)

# What is handed out is this directory and not the filesystem's root: there lies lost+found, which makes databases
# refuse the volume and the engine think that it has content already.
TREE = "_data"
SNAPSHOTS = ".snapshots"
TRASHED = ".trashed"
# What copies within a pool need. btrfs always has it.
_REFLINK = {"xfs": ("-m", "reflink=1")}
_POOL_SECTOR = 4096


@dataclass(frozen=True)
class Layout:
    """Where volumes are. volumes: one directory each; mount_root: one mount point each, nothing of anybody else's."""

    volumes: Path
    mount_root: Path

    def disk(self, pool: str) -> Path:
        """Return the directory of the volumes in the pool of that name; "": of those that are in none."""
        return self.volumes / POOL_MOUNTS / pool / TREE if pool else self.volumes

    def plan_pool(self, pool: Pool, _parent: None) -> tuple[Resource, ...]:
        """Return what the pool consists of, which is always mounted."""
        mount = self.pool_mount(pool)
        return (
            BackingFile(mount.path, pool.size, pool.created_at is None, pool.sparse, pool.fs),
            Filesystem(mount.path, pool.fs, TREE, pool.sparse, _REFLINK.get(pool.fs, ())),
            LoopDevice(mount.path, _POOL_SECTOR),
            mount,
        )

    def pool_mount(self, pool: Pool) -> Mount:
        """Return the pool's mount, be it there or not."""
        image = self.volumes / POOLS / pool.name / f"image.{pool.fs}"
        # What volumes give back, the pool gives back to its disk, unless it is to stay allocated.
        options = ("discard",) if pool.sparse else (("nodiscard",) if pool.fs == "btrfs" else ())
        return Mount(self.volumes / POOL_MOUNTS / pool.name, image, pool.fs, TREE, options)

    def plan_volume(self, volume: Volume, _parent: None) -> tuple[Resource, ...]:
        """Return what the volume consists of, mounted or not."""
        match volume.options:
            case Loop() as loop:
                image = self._image(volume.name, loop)
                restored: tuple[Resource, ...] = ()
                if volume.restoring is not None:
                    snapshot = self.snapshot_path(volume.name, volume.restoring.snapshot, loop.fs, loop.pool)
                    restored = (Restoration(image, snapshot, loop.size, volume.restoring.token),)
                staged = (
                    (StagedImage(image, self.staged_path(volume.staged, loop.pool), loop.fs),) if volume.staged else ()
                )
                return (
                    *staged,
                    self._backing_file(image, volume, loop),
                    self._filesystem(image, loop),
                    *restored,
                )
            case Bind() as bind:
                may_create = volume.created_at is None and (bind.create or bind.subdir_per_volume)
                source = _source(volume.name, bind)
                return (SourceDirectory(source, may_create, may_create and bind.create, _owner(bind)),)

    def plan_snapshot(self, snapshot: Snapshot, volume: Volume) -> tuple[Resource, ...]:
        """Return what keeps the volume's content of that instant."""
        if not isinstance(volume.options, Loop):
            return ()
        loop = volume.options
        path = self.snapshot_path(volume.name, snapshot.name, loop.fs, loop.pool)
        origin = Origin(self._image(volume.name, loop), self.mount_root / volume.name)
        return (SnapshotFile(path, origin, snapshot.created_at is None),)

    def plan_attachment(self, attachment: Attachment, volume: Volume) -> tuple[Resource, ...]:
        """Return what makes the volume's files visible; nothing while nobody has it mounted."""
        if not attachment.mounts:
            return ()
        mount = replace(self.mount(volume), lazy=attachment.lazy)
        if isinstance(mount, Mount) and isinstance(volume.options, Loop):
            return (LoopDevice(mount.path, volume.options.sector), mount)
        return (mount,)

    def mount(self, volume: Volume) -> Mount | BindMount:
        """Return the volume's mount, be it there or not."""
        target = self.mount_root / volume.name
        match volume.options:
            case Loop() as loop:
                image = self._image(volume.name, loop)
                return Mount(target, image, loop.fs, TREE, _mount_options(loop), key_source(loop))
            case Bind() as bind:
                return BindMount(target, _source(volume.name, bind), _mount_options(bind))

    def mount_of(self, volume: Volume | Pool) -> Mount | BindMount:
        """Return the mount of the volume or pool, be it there or not."""
        return self.pool_mount(volume) if isinstance(volume, Pool) else self.mount(volume)

    def mountpoint(self, volume: Volume) -> str:
        """Return the directory that is handed out while the volume is mounted."""
        mount = self.mount(volume)
        return str(mount.target / mount.tree if isinstance(mount, Mount) else mount.target)

    def plan_trashed(self, trashed: Trashed, _parent: None) -> tuple[Resource, ...]:
        """Return what is kept of a volume that was removed."""
        options = trashed.volume.options
        if not isinstance(options, Loop):
            return ()
        return (TrashedImage(self.trashed_path(trashed.id, options.fs, options.pool)),)

    def trashed_path(self, trashed: str, fs: str, pool: str = "") -> Path:
        """Return where a backing file is kept that was removed."""
        name, _, when = trashed.partition("~")
        return self.disk(pool) / TRASHED / name / f"{when}.{fs}"

    def _backing_file(self, image: Path, volume: Volume, loop: Loop) -> BackingFile:
        trash = self.trashed_path(volume.trash, loop.fs, loop.pool) if volume.trash else None
        may_create = volume.created_at is None and trash is None
        return BackingFile(image, loop.size, may_create, loop.sparse, loop.fs, volume.shrinking, trash)

    def _filesystem(self, image: Path, loop: Loop) -> Filesystem:
        reserve = loop.reserve if loop.fs == "ext4" and "-m" not in loop.mkfs_opts else None
        origin = self._origin(loop)
        return Filesystem(
            image, loop.fs, TREE, loop.sparse, loop.mkfs_opts, _owner(loop), origin, reserve, key_source(loop)
        )

    def _origin(self, loop: Loop) -> Origin | None:
        """Return the file that a clone is a copy of: it has the same kind of filesystem."""
        name, at, snapshot = loop.origin.partition("@")
        if not name:
            return None
        if at:
            return Origin(self.snapshot_path(name, snapshot, loop.fs, loop.pool), None)
        return Origin(self._image(name, loop), self.mount_root / name)

    def snapshot_path(self, volume: str, name: str, fs: str, pool: str = "") -> Path:
        """Return where the content of a snapshot is."""
        # No volume's name starts with a dot. On the disk of the volumes, so that a copy may be a reflink.
        return self.disk(pool) / SNAPSHOTS / volume / f"{name}.{fs}"

    def staged_path(self, name: str, pool: str = "") -> Path:
        """Return where an image is that becomes a volume. On the disk of the volumes, so that it need not be copied."""
        return self.disk(pool) / STAGED / name

    def _image(self, name: str, loop: Loop) -> Path:
        return self.disk(loop.pool) / name / f"image.{loop.fs}"


def key_source(loop: Loop) -> KeySource | None:
    """Return where the key comes from that the volume is encrypted with, if it is."""
    if not loop.encrypt:
        return None
    return KeySource(Path(loop.key_cmd[0]), loop.key_cmd) if loop.key_cmd else KeySource(Path(loop.key_file))


def _mount_options(options: Loop | Bind) -> tuple[str, ...]:
    found = [word for word in options.mount_opts if word not in ("nodev", "nosuid")]
    if isinstance(options, Loop) and options.fs == "btrfs" and not options.sparse:
        # btrfs discards by default, which would give back to the host what is to stay allocated.
        found.append("nodiscard")
    if options.ro:
        found.append("ro")
    return tuple(found)


def _owner(options: Loop | Bind) -> Owner:
    return Owner(options.uid, options.gid, options.mode)


def _source(name: str, bind: Bind) -> Path:
    return Path(bind.source) / name if bind.subdir_per_volume else Path(bind.source)
