"""Filesystems grow to the end of their device, and ext4 shrinks in its file; btrfs shrinks where it is mounted.

Growing is no move of its own: a filesystem that is smaller than its device is whole, and grows when it is mounted, or
while it is mounted, where the kernel lets. Shrinking is done on a copy that takes the file's place when it is finished,
for a resize2fs that is cut short leaves a wreck.

Source: resize2fs(8), xfs_growfs(8), btrfs-filesystem(8).
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from pluginkit import command
from pluginkit.errors import CommandError, Exhausted
from volplugin.kernel import superblock
from volplugin.kernel.copies.copying import copy
from volplugin.kernel.syscalls import refused
from volplugin.values import format_size

log = logging.getLogger(__name__)

# The last allocation group may be too small to be made. Less than this is not worth a try each time.
_SLACK_BYTES = 16 << 20
# Growing is part of Mount: below dockerd's 120 s, together with the check.
_GROW_TIMEOUT_S = 25.0
SHRINK_TIMEOUT_S = 1800.0


def is_short(device: Path, fs: str, device_bytes: int) -> bool:
    """Tell whether the filesystem does not reach as far as it could."""
    size = superblock.size_bytes(device, fs)
    slack = 0 if fs == "ext4" else _SLACK_BYTES
    return size is not None and size + slack < device_bytes


def grow_unmounted(device: Path) -> None:
    """The ext4 on the device, which nobody has mounted, fills it. Raises: CommandError: it is as it was, or damaged."""
    command.run(["e2fsck", "-f", "-p", str(device)], timeout_s=_GROW_TIMEOUT_S, accept=(0, 1))
    command.run(["resize2fs", str(device)], timeout_s=_GROW_TIMEOUT_S)


def grow_mounted(device: Path, target: Path, fs: str) -> None:
    """The filesystem fills its device, or the log says why not: then it is smaller than it could be, and whole."""
    argv = {
        "ext4": ["resize2fs", str(device)],
        "xfs": ["xfs_growfs", str(target)],
        "btrfs": ["btrfs", "filesystem", "resize", "max", str(target)],
    }[fs]
    try:
        command.run(argv, timeout_s=_GROW_TIMEOUT_S)
    except CommandError as exc:
        log.warning("%s is not grown while it is mounted, but will be at its next mount: %s", target, exc)


def shrink(path: Path, size: int, new: Path) -> None:
    """The ext4 in the file, which no device is on, and the file itself have `size` bytes. new: a name that is free.

    Raises: Exhausted: its content needs more; CommandError, KernelError. The file is as it was.
    """
    new.unlink(missing_ok=True)
    # Before a copy is made in vain. It is what resize2fs itself would refuse.
    done = command.run(["resize2fs", "-P", str(path)], timeout_s=SHRINK_TIMEOUT_S)
    least = int(done.stdout.rpartition(":")[2]) * superblock.BLOCK_BYTES
    if least > size:
        raise Exhausted(
            f"cannot shrink {path} to {format_size(size)}: what is in it needs {format_size(least)}; delete files in"
            " it, or give a larger size"
        )
    try:
        copy(path, new)
        command.run(["e2fsck", "-f", "-p", str(new)], timeout_s=SHRINK_TIMEOUT_S, accept=(0, 1))
        try:
            command.run(["resize2fs", str(new), f"{size // 1024}K"], timeout_s=SHRINK_TIMEOUT_S)
        except CommandError as exc:
            raise Exhausted(
                f"cannot shrink {path} to {format_size(size)}: {exc}; delete files in it, or give a larger size"
            ) from exc
        with refused("shrink", path):
            descriptor = os.open(new, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            new.rename(path)
    finally:
        new.unlink(missing_ok=True)
