"""Filesystems: made once, when a volume is created, and checked before they are mounted. Never made again.

Source: e2fsck(8); the ext4 superblock: kernel Documentation/filesystems/ext4/super.rst.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from pluginkit import command
from pluginkit.errors import CommandError, KernelError
from volplugin.kernel import formats, loopctl, resizing, superblock
from volplugin.kernel.backing import NEW, discard, sync
from volplugin.kernel.copies import snapshots
from volplugin.kernel.copies.freezing import Freezer, thaw
from volplugin.kernel.encryption.keys import Keys
from volplugin.kernel.loopdev import LoopDevices
from volplugin.kernel.syscalls import refused
from volplugin.resources import Filesystem

log = logging.getLogger(__name__)

# Below dockerd's 120 s for Mount.
_CHECK_TIMEOUT_S = 90.0
_TUNE_TIMEOUT_S = 20.0

# One directory for each ext4 filesystem that is mounted in any namespace, named as its device.
_MOUNTED = Path("/sys/fs/ext4")

_SUPERBLOCK_OFFSET = 1024
_MAGIC = struct.Struct("<56xHH")
_INCOMPAT = struct.Struct("<96xI")
_EXT4_MAGIC = 0xEF53
_STATE_CLEAN = 0x1
_STATE_ERRORS = 0x2
_INCOMPAT_RECOVER = 0x4


class Filesystems:
    """The filesystems in backing files."""

    def __init__(self, devices: LoopDevices, keys: Keys) -> None:
        self._devices = devices
        self._keys = keys

    def ensure(self, want: Filesystem) -> None:
        """The backing file holds a complete filesystem, under its final name and on the disk.

        The rename is the commit: a file with the final name was formatted to the end, and is never formatted again.
        """
        if want.path.exists():
            self._keep_reserve(want)
            return
        if want.key_source is not None:
            # Nothing is made that could not be mounted.
            with self._keys.opened(want.key_source):
                pass
        new = want.path.with_name(want.path.name + NEW)
        with refused("format", new):
            descriptor = os.open(new, os.O_RDWR | os.O_CLOEXEC)
        try:
            _check_blank(descriptor, new)
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        if want.origin is None:
            formats.make(want, new, new.with_name(f"tree{NEW}"))
        else:
            with refused("make", new):
                discard(new)
            snapshots.copy_instant(want.origin, new, self._devices, Freezer())
            with refused("make", new):
                os.truncate(new, size)
            snapshots.make_distinct(new, want.fs)
        snapshots.put_in_place(new, want.path)
        with refused("make", want.path):
            sync(want.path.parent.parent)
        self._keep_reserve(want)

    def _keep_reserve(self, want: Filesystem) -> None:
        """So much of an ext4, mounted or not, only root can fill. Raises: CommandError, KernelError."""
        if want.reserve is None:
            return
        number = self._devices.find(want.path)
        # What is in the file is not yet what is mounted.
        place = want.path if number is None else loopctl.node(number)
        if superblock.reserved_percent(place) not in (None, want.reserve):
            command.run(["tune2fs", "-m", str(want.reserve), str(place)], timeout_s=_TUNE_TIMEOUT_S)

    def remove(self, want: Filesystem) -> None:
        """Nothing is changed: a filesystem goes with its backing file. What an interrupted copy froze is thawed."""
        if (
            want.origin is not None
            and want.origin.target is not None
            and want.path.with_name(want.path.name + NEW).exists()
        ):
            thaw(want.origin.target)

    def owned(self) -> Iterable[Filesystem]:
        """Return nothing: backing files are looked for, not what is in them."""
        return ()


def make_clean(device: Path, image: Path, fs: str, device_bytes: int) -> None:
    """The filesystem on `device` can be mounted: it was clean, or has been made so, or it is mounted somewhere already.

    Only ext4 needs anything; the mount of an xfs or btrfs that was not unmounted recovers by itself. An ext4 that is
    smaller than its device has grown: while it is mounted, not every kernel lets it.

    Raises: KernelError: it is damaged, and has been left alone but for what e2fsck -p finds safe to repair.
    """
    if fs != "ext4" or (_MOUNTED / device.name).exists():
        # Somewhere an earlier mount is still in use, and the kernel will give us the same filesystem again. Opening the
        # device with O_EXCL would tell as well, but a child that another thread forks just then keeps it busy.
        return
    if not is_clean(device):
        log.warning("%s was not unmounted cleanly: checking it", image)
        try:
            command.run(["e2fsck", "-p", str(device)], timeout_s=_CHECK_TIMEOUT_S, accept=(0, 1))
        except CommandError as exc:
            hint = f"the filesystem needs repair by hand, 'e2fsck -f {image}', and is left as it is: {exc}"
            raise KernelError("mount", str(image), errno.EUCLEAN, hint) from exc
    if resizing.is_short(device, fs, device_bytes):
        try:
            resizing.grow_unmounted(device)
        except CommandError as exc:
            hint = f"it could not be grown to its size: {exc}; 'e2fsck -f {image}' tells whether it is damaged"
            raise KernelError("mount", str(image), errno.EUCLEAN, hint) from exc


def _check_blank(descriptor: int, path: Path) -> None:
    """Raises: KernelError: there is data in the file. "No known filesystem" would not mean that there is none."""
    with refused("format", path):
        try:
            os.lseek(descriptor, 0, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return
            raise
    raise KernelError("format", str(path), errno.EEXIST, "there is data in it, or its filesystem cannot have holes")


def is_clean(path: Path) -> bool:
    """Tell whether the ext4 on the device or in the file was unmounted, and no damage was noticed before.

    Raises: KernelError.
    """
    magic, state, incompat = _state(path)
    return (
        magic == _EXT4_MAGIC
        and state & (_STATE_CLEAN | _STATE_ERRORS) == _STATE_CLEAN
        and not incompat & _INCOMPAT_RECOVER
    )


def has_errors(path: Path) -> bool:
    """Tell whether there is no ext4 on the device or in the file, or one in which the kernel has noticed damage.

    Raises: KernelError.
    """
    magic, state, _ = _state(path)
    return magic != _EXT4_MAGIC or bool(state & _STATE_ERRORS)


def _state(path: Path) -> tuple[int, int, int]:
    """Return magic, state and features of the superblock; zeros if there is none."""
    with refused("read the superblock of", path), path.open("rb", buffering=0) as opened:
        superblock = os.pread(opened.fileno(), 1024, _SUPERBLOCK_OFFSET).ljust(1024, b"\0")
    return (*_MAGIC.unpack_from(superblock), *_INCOMPAT.unpack_from(superblock))
