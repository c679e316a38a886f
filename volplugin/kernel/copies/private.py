"""Filesystems in image files, mounted for this process alone, which the kernel unmounts when it ends, however that is.

While one is mounted to be written to, nothing else can be: whoever unpacks into it reaches nothing of the host.

Source: mount_namespaces(7), mount_setattr(2), setns(2).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pluginkit.errors import KernelError
from volplugin.kernel import formats, loopctl
from volplugin.kernel.copies.snapshots import make_distinct
from volplugin.kernel.copies.staging import Image
from volplugin.kernel.syscalls import mount, refused, return_to, separate_mounts, unmount
from volplugin.resources import Filesystem

# A free device may be taken by others before we are there.
_ATTEMPTS = 64


@contextmanager
def mounted(image: Image, target: Path, fs: str, *, writable: bool) -> Iterator[Path]:
    """Inside the block the filesystem is mounted at the directory `target`, for this process and its children.

    The block must end in the thread in which it began, without others that began in it.

    Raises: KernelError: it cannot be mounted, or not unmounted, and then it may lack what was written.
    """
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with refused("make a mount namespace for", target):
            separate_mounts()
        try:
            with loopctl.until_last_close(_attach(image, target)) as device:
                # Beside the filesystem that it is a copy of, a btrfs of the same UUID would be taken for that.
                make_distinct(device, fs)
                with refused("mount", target, f"it may be damaged: {formats.MOUNT_FACTS[fs].repair}"):
                    options = (*formats.MOUNT_FACTS[fs].data, *(() if writable else ("ro",)))
                    mount(device, target, fs, options)
            yield target
            with refused("unmount", target):
                unmount(target)
        finally:
            with refused("leave the mount namespace of", target):
                return_to(home)
    finally:
        os.close(home)


def format_image(image: Image, want: Filesystem) -> None:
    """The image, which was empty, holds a complete filesystem. want.path: a name that is free, before and after.

    Raises: CommandError, KernelError, Exhausted.
    """
    with refused("make", want.path):
        descriptor = os.open(want.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with refused("make", want.path):
            os.ftruncate(descriptor, image.size)
        formats.make(want, want.path, want.path.with_name(f"{want.path.name}.tree"))
        # What makes filesystems wants a name, and what is named would have to be swept if we are killed.
        image.fill(want.path)
    finally:
        os.close(descriptor)
        want.path.unlink()


def _attach(image: Image, target: Path) -> int:
    for _ in range(_ATTEMPTS):
        number = loopctl.free_number()
        with refused("attach a loop device for", target):
            if loopctl.configure(number, image.descriptor, 512):
                return number
    raise KernelError("attach a loop device for", str(target), errno.EBUSY, "others took each of the free ones first")
