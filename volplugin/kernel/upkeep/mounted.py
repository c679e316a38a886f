"""What is done to filesystems while they are mounted: they give back what they do not use, or get smaller.

Source: fstrim(8); linux/fs.h struct fstrim_range; btrfs-filesystem(8).
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

from pluginkit import command
from pluginkit.errors import CommandError, Exhausted
from volplugin.kernel import resizing
from volplugin.kernel.syscalls import refused
from volplugin.resources import Mount
from volplugin.values import format_size

_FITRIM = 0xC0185879
_RANGE = struct.Struct("=3Q")  # start, length, least length; on return the length is what was trimmed.
_EVERYTHING = (1 << 64) - 1


class MountedFilesystems:
    """What is done to them there."""

    def trim(self, mount: Mount) -> int:
        """What the mounted filesystem does not use is not on the host's disk; return the bytes that came free there.

        Raises: KernelError.
        """
        before = _allocated(mount.path)
        with refused("trim", mount.target):
            descriptor = os.open(mount.target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(descriptor, _FITRIM, _RANGE.pack(0, _EVERYTHING, 0))
            finally:
                os.close(descriptor)
        return max(0, before - _allocated(mount.path))

    def shrink(self, mount: Mount, size: int) -> None:
        """The mounted btrfs does not reach beyond the first `size` bytes of its device.

        Raises: Exhausted: what is in it needs more; it is as it was.
        """
        try:
            argv = ["btrfs", "filesystem", "resize", str(size), str(mount.target)]
            command.run(argv, timeout_s=resizing.SHRINK_TIMEOUT_S)
        except CommandError as exc:
            raise Exhausted(
                f"cannot shrink {mount.path} to {format_size(size)}: {exc}; delete files in it, or give a larger size"
            ) from exc


def _allocated(path: Path) -> int:
    with refused("look at", path):
        return path.stat().st_blocks * 512
