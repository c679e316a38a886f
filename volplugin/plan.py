"""What a record means to the kernel. Pure: the same record gives the same resources, always."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pluginkit.reconcile import Resource
from volplugin.options import Bind, Loop
from volplugin.records import Attachment, Volume
from volplugin.resources import BackingFile, BindMount, Filesystem, LoopDevice, Mount, Owner, SourceDirectory

# What is handed out is this directory and not the filesystem's root: there lies lost+found, which makes databases
# refuse the volume and the engine think that it has content already.
TREE = "_data"


@dataclass(frozen=True)
class Layout:
    """Where volumes are. volumes: one directory each; mount_root: one mount point each, nothing of anybody else's."""

    volumes: Path
    mount_root: Path

    def plan_volume(self, volume: Volume, _parent: None) -> tuple[Resource, ...]:
        """Return what the volume consists of, mounted or not."""
        match volume.options:
            case Loop() as loop:
                image = self._image(volume.name, loop.fs)
                return (
                    BackingFile(image, loop.size, volume.created_at is None, loop.sparse),
                    Filesystem(image, loop.fs, TREE, loop.sparse, loop.mkfs_opts, _owner(loop)),
                )
            case Bind() as bind:
                may_create = volume.created_at is None and (bind.create or bind.subdir_per_volume)
                source = _source(volume.name, bind)
                return (SourceDirectory(source, may_create, may_create and bind.create, _owner(bind)),)

    def plan_attachment(self, attachment: Attachment, volume: Volume) -> tuple[Resource, ...]:
        """Return what makes the volume's files visible; nothing while nobody has it mounted."""
        if not attachment.mounts:
            return ()
        mount = self.mount(volume)
        if isinstance(mount, Mount) and isinstance(volume.options, Loop):
            return (LoopDevice(mount.path, volume.options.sector), mount)
        return (mount,)

    def mount(self, volume: Volume) -> Mount | BindMount:
        """Return the volume's mount, be it there or not."""
        target = self.mount_root / volume.name
        match volume.options:
            case Loop() as loop:
                return Mount(target, self._image(volume.name, loop.fs), loop.fs, TREE, _mount_options(loop))
            case Bind() as bind:
                return BindMount(target, _source(volume.name, bind), _mount_options(bind))

    def mountpoint(self, volume: Volume) -> str:
        """Return the directory that is handed out while the volume is mounted."""
        mount = self.mount(volume)
        return str(mount.target / mount.tree if isinstance(mount, Mount) else mount.target)

    def _image(self, name: str, fs: str) -> Path:
        return self.volumes / name / f"image.{fs}"


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
