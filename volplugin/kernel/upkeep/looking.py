"""A look at volumes from below: what there is, and what there should not be. Nothing is changed by it.

Source: kernel Documentation/ABI/testing/sysfs-fs-ext4 (errors_count).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pluginkit import command
from pluginkit.errors import PluginError
from volplugin.kernel import filesystem, loopctl, mountinfo
from volplugin.kernel.backing import NEW
from volplugin.kernel.copies import freezing
from volplugin.kernel.encryption.keys import Keys
from volplugin.kernel.loopdev import LoopDevices
from volplugin.kernel.mounts import Mounts
from volplugin.kernel.syscalls import refused
from volplugin.resources import STAGED, KeySource, Mount

_EVERY = ("fsfreeze", "timeout", "cat", "sh")
_PROGRAMS = {
    "ext4": ("mkfs.ext4", "e2fsck", "resize2fs", "tune2fs"),
    "xfs": ("mkfs.xfs", "xfs_growfs", "xfs_repair", "xfs_db"),
    "btrfs": ("mkfs.btrfs", "btrfs", "btrfstune"),
}
_EXT4 = Path("/sys/fs/ext4")
# Below the state directory: records, the lock of who serves, the administrator's socket, and what has rooms of its own.
_OURS = ("lock", "admin.sock", "volumes", "mnt", "keys")
# If it is the root of a disk of its own, the disk's filesystem has this there, and cannot do without.
_OF_THE_DISK = "lost+found"
_PASSING = (STAGED, ".trash")


@dataclass(frozen=True)
class Looked:
    """What was found of a volume.

    lost: the device that is on a deleted file of its file's name. state: ok, unclean, damaged, read-only, frozen.
    """

    file_bytes: int | None
    has_device: bool
    is_mounted: bool
    lost: str
    state: str


class Looking:
    """Looks at the volumes of one state directory."""

    def __init__(
        self,
        state_dir: Path,
        volumes: Path,
        devices: LoopDevices,
        mounts: Mounts,
        keys: Keys,
        table: mountinfo.Table,
    ) -> None:
        self._state_dir = state_dir
        self._volumes = volumes
        self._devices = devices
        self._mounts = mounts
        self._keys = keys
        self._table = table

    def look(self, mount: Mount) -> Looked:
        """Return what there is of the volume. One that is mounted stands still for a moment. Raises: KernelError."""
        number = self._devices.find(mount.path)
        visible = self._table.at(mount.target)
        is_mounted = visible is not None and number is not None and visible.device == loopctl.device_id(number)
        try:
            size = mount.path.stat().st_size
        except FileNotFoundError:
            size = None
        lost = next(
            (str(loopctl.node(each)) for each, name in loopctl.in_use() if name == f"{mount.path} (deleted)"), ""
        )
        if is_mounted and number is not None:
            state = _mounted_state(mount, number)
        elif mount.fs == "ext4" and size is not None and number is None:
            damaged = filesystem.has_errors(mount.path)
            state = "damaged" if damaged else "ok" if filesystem.is_clean(mount.path) else "unclean"
        else:
            state = "ok"
        return Looked(size, number is not None, is_mounted, lost, state)

    def strays(self, images: set[Path], mounted: set[Path]) -> Iterator[str]:
        """Yield what else there is, as KIND PATH: device, mount, data or file."""
        for device in self._devices.owned():
            if device.path not in mounted:
                yield f"device {device.path}"
        for point in self._mounts.owned():
            if point.target not in mounted and self._table.at(point.target):
                yield f"mount {point.target}"
        for path in self._files(self._volumes):
            if path not in images and not path.name.endswith(NEW):
                kind = "data" if path.suffix in (".ext4", ".xfs", ".btrfs") else "file"
                yield f"{kind} {path}"
        with suppress(FileNotFoundError):
            for path in self._state_dir.iterdir():
                if path.name not in (*_OURS, _OF_THE_DISK) and not path.name.startswith("pyvol.db"):
                    yield f"file {path}"

    def missing(self, filesystems: set[str]) -> tuple[str, ...]:
        """Return the programs that are not installed and that such filesystems need."""
        wanted = [*_EVERY, *(program for fs in sorted(filesystems) for program in _PROGRAMS[fs])]
        return tuple(program for program in wanted if not command.is_installed(program))

    def disk_bytes(self) -> int:
        """Return the size of the disk of the volumes. Raises: KernelError."""
        with refused("look at", self._state_dir):
            found = os.statvfs(self._state_dir)
        return found.f_blocks * found.f_frsize

    def is_exposed(self, source: KeySource) -> bool:
        """Tell whether there is a key that others may read."""
        with suppress(PluginError):
            return self._keys.is_exposed(source)
        return False

    def close_key(self, source: KeySource) -> None:
        """Nobody but its owner may read it. Raises: KernelError."""
        self._keys.close(source)

    def thaw(self, mount: Mount) -> None:
        """The filesystem is not frozen. Raises: KernelError."""
        freezing.thaw(mount.target)

    def _files(self, directory: Path) -> Iterator[Path]:
        with suppress(FileNotFoundError):
            for path in sorted(directory.iterdir()):
                if path.is_dir() and not path.is_symlink():
                    if path.name not in _PASSING:
                        yield from self._files(path)
                else:
                    yield path


def _mounted_state(mount: Mount, number: int) -> str:
    if freezing.is_frozen(mount.target):
        return "frozen"
    with suppress(OSError, ValueError):
        if int((_EXT4 / f"loop{number}/errors_count").read_text(encoding="ascii")):
            return "damaged"
    with refused("look at", mount.target):
        is_read_only = os.statvfs(mount.target).f_flag & os.ST_RDONLY
    return "read-only" if is_read_only and "ro" not in mount.options else "ok"
