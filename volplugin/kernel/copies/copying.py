"""Copies of image files: by reflink, which takes no time and no space, or else of the parts that hold data.

Source: ioctl_ficlone(2), lseek(2) SEEK_DATA, copy_file_range(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

from pluginkit.errors import Exhausted
from volplugin.kernel.syscalls import refused
from volplugin.values import rough_size

_FICLONE = 0x40049409
# What a filesystem says that has no reflink, or that the two files are on two of them.
_NO_REFLINK = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL})
_CHUNK = 64 << 20
_BLOCK = 4096


def copy(source: Path, target: Path) -> None:
    """`target`, which did not exist, has the content of `source` and its holes; it is not yet on the disk for sure.

    Raises: Exhausted: the disk has no room for it; KernelError. An unfinished target may be left.
    """
    with refused("copy", source):
        reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with refused("copy to", target):
            writing = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with refused("copy to", target):
                fill(reading, writing, source)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def has_reflinks(directory: Path) -> bool:
    """Tell whether files in the directory can share their content. Raises: KernelError."""
    with refused("look at", directory), TemporaryFile(dir=directory) as one, TemporaryFile(dir=directory) as other:
        one.write(bytes(_BLOCK))
        one.flush()
        try:
            fcntl.ioctl(other, _FICLONE, one.fileno())
        except OSError as exc:
            if exc.errno in _NO_REFLINK:
                return False
            raise
    return True


def fill(reading: int, writing: int, source: Path) -> None:
    """The empty file `writing` has the content of `reading`, whose name is `source`. Raises: OSError, Exhausted."""
    try:
        fcntl.ioctl(writing, _FICLONE, reading)
    except OSError as exc:
        if exc.errno not in _NO_REFLINK:
            raise
    else:
        return
    found = os.fstat(reading)
    disk = os.fstatvfs(writing)
    # The kernel would find out only when the disk is full, to the harm of everybody on it.
    needed, available = found.st_blocks * 512, disk.f_bavail * disk.f_frsize
    if needed > available:
        raise Exhausted(
            f"cannot copy {source}: without reflinks that takes {rough_size(needed)}, and the disk has"
            f" {rough_size(available)} available; make room"
        )
    os.ftruncate(writing, found.st_size)
    for start, end in data(reading, found.st_size):
        offset = start
        while offset < end:
            done = os.copy_file_range(reading, writing, min(_CHUNK, end - offset), offset, offset)
            if not done:
                return
            offset += done


def data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where the file has data, from and to."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
