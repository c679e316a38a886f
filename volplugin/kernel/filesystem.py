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
from volplugin.kernel import formats
from volplugin.kernel.backing import NEW, sync
from volplugin.kernel.syscalls import refused
from volplugin.resources import Filesystem

log = logging.getLogger(__name__)

# Below dockerd's 120 s for Mount.
_CHECK_TIMEOUT_S = 90.0

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

    def ensure(self, want: Filesystem) -> None:
        """The backing file holds a complete filesystem, under its final name and on the disk.

        The rename is the commit: a file with the final name was formatted to the end, and is never formatted again.
        """
        if want.path.exists():
            return
        new = want.path.with_name(want.path.name + NEW)
        with refused("format", new):
            descriptor = os.open(new, os.O_RDWR | os.O_CLOEXEC)
        try:
            _check_blank(descriptor, new)
            formats.make(want, new, new.with_name(f"tree{NEW}"))
            with refused("format", new):
                os.fsync(descriptor)
                new.rename(want.path)
                sync(want.path.parent)
                sync(want.path.parent.parent)
        finally:
            os.close(descriptor)

    def remove(self, want: Filesystem) -> None:
        """Nothing is changed: a filesystem goes with its backing file."""

    def owned(self) -> Iterable[Filesystem]:
        """Return nothing: backing files are looked for, not what is in them."""
        return ()


def make_clean(device: Path, image: Path, fs: str) -> None:
    """The filesystem on `device` can be mounted: it was clean, or has been made so, or it is mounted somewhere already.

    Only ext4 needs anything; the mount of an xfs or btrfs that was not unmounted recovers by itself.

    Raises: KernelError: it is damaged, and has been left alone but for what e2fsck -p finds safe to repair.
    """
    if fs != "ext4" or (_MOUNTED / device.name).exists():
        # Somewhere an earlier mount is still in use, and the kernel will give us the same filesystem again. Opening the
        # device with O_EXCL would tell as well, but a child that another thread forks just then keeps it busy.
        return
    with refused("read the superblock of", image), device.open("rb", buffering=0) as opened:
        superblock = os.pread(opened.fileno(), 1024, _SUPERBLOCK_OFFSET)
    if not _is_clean(superblock):
        log.warning("%s was not unmounted cleanly: checking it", image)
        try:
            command.run(["e2fsck", "-p", str(device)], timeout_s=_CHECK_TIMEOUT_S, accept=(0, 1))
        except CommandError as exc:
            hint = f"the filesystem needs repair by hand, 'e2fsck -f {image}', and is left as it is: {exc}"
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


def _is_clean(superblock: bytes) -> bool:
    magic, state = _MAGIC.unpack_from(superblock)
    [incompat] = _INCOMPAT.unpack_from(superblock)
    return (
        magic == _EXT4_MAGIC
        and state & (_STATE_CLEAN | _STATE_ERRORS) == _STATE_CLEAN
        and not incompat & _INCOMPAT_RECOVER
    )
