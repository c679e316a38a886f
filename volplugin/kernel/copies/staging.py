"""Images that are filled by a process which may end at any moment, and then are a volume's, or never were.

While one is filled it has no name, so the kernel deletes it when that process ends, however that comes about. It gets a
name when it is whole, for the moment until the volume is made of it.

Source: open(2) O_TMPFILE, and there how to give such a file a name.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pluginkit.errors import Exhausted, KernelError
from volplugin.kernel.backing import discard, sync
from volplugin.kernel.copies.copying import data, fill
from volplugin.kernel.copies.extents import differing
from volplugin.kernel.copies.snapshots import make_distinct
from volplugin.kernel.disks import check_there, disks, is_lost
from volplugin.kernel.syscalls import punch, refused
from volplugin.resources import STAGED, StagedImage
from volplugin.values import rough_size

# Nothing has a name here for longer than it takes to ask for the volume.
_FORGOTTEN_S = 60.0
_BLOCK = 4096
_ZEROS = bytes(1 << 20)


class Image:
    """An open image file."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self._path = path

    @property
    def size(self) -> int:
        """Its bytes, holes included."""
        return os.fstat(self.descriptor).st_size

    @property
    def allocated(self) -> int:
        """The bytes that it takes of the disk."""
        return os.fstat(self.descriptor).st_blocks * 512

    @property
    def identity(self) -> str:
        """What no other file has, and this one not after a change."""
        found = os.fstat(self.descriptor)
        return f"{found.st_ino}:{found.st_mtime_ns}"

    def same_as(self, other: Image, chunk_bytes: int) -> frozenset[int]:
        """Return chunks that are the same in both, which need not be read to know that: all are, or none, or some."""
        try:
            changed = differing(self.descriptor, other.descriptor, self.size, chunk_bytes)
        except OSError:
            # Not every filesystem can tell where files are.
            return frozenset()
        whole = min(self.size, other.size) // chunk_bytes
        return frozenset(range(whole)) - changed

    def chunks(self, chunk_bytes: int, without: Collection[int] = ()) -> Iterator[tuple[int, bytes]]:
        """Yield the number and the content of each chunk of it that is not zeros. Raises: KernelError."""
        with refused("read", self._path):
            done = -1
            for start, end in data(self.descriptor, self.size):
                for number in range(max(start // chunk_bytes, done + 1), -(-end // chunk_bytes)):
                    done = number
                    if number in without:
                        continue
                    content = os.pread(self.descriptor, chunk_bytes, number * chunk_bytes)
                    if content != _ZEROS[: len(content)]:
                        yield number, content

    def check_room(self, needed: int) -> None:
        """Raises: Exhausted: the disk has no room for so many bytes."""
        disk = os.fstatvfs(self.descriptor)
        # The kernel would find out only when the disk is full, to the harm of everybody on it.
        if needed > (available := disk.f_bavail * disk.f_frsize):
            raise Exhausted(
                f"cannot restore: that takes {rough_size(needed)}, and the disk has {rough_size(available)} available;"
                " make room"
            )

    def resize(self, size: int) -> None:
        """It has that size; what is new of it is a hole. Raises: KernelError."""
        with refused("resize", self._path):
            os.ftruncate(self.descriptor, size)

    def write(self, offset: int, content: bytes) -> None:
        """`content` is there; whole blocks of zeros are left out, so there must be a hole. Raises: KernelError."""
        with refused("write to", self._path):
            start = 0
            while start < len(content):
                end = start
                while end < len(content) and content[end : end + _BLOCK] != _ZEROS[: min(_BLOCK, len(content) - end)]:
                    end += _BLOCK
                while start < min(end, len(content)):
                    start += os.pwrite(self.descriptor, memoryview(content)[start:end], offset + start)
                start = end + _BLOCK

    def fill(self, source: Path) -> None:
        """It has the content of that file; it had none. Raises: KernelError, Exhausted."""
        with opened(source) as image, refused("copy", source):
            fill(image.descriptor, self.descriptor, source)

    def clear(self, offset: int, length: int) -> None:
        """There is a hole. Raises: KernelError."""
        with refused("write to", self._path):
            punch(self.descriptor, offset, length)

    def name(self, path: Path) -> None:
        """It is on the disk, and under that name. Raises: KernelError."""
        with refused("make", path):
            os.utime(self.descriptor)
            os.fsync(self.descriptor)
            descriptors = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # Without a directory's descriptor Python would call link(), which on Linux follows no link.
                os.link(str(self.descriptor), path, src_dir_fd=descriptors, follow_symlinks=True)
            finally:
                os.close(descriptors)
            sync(path.parent)


@contextmanager
def opened(path: Path) -> Iterator[Image]:
    """Inside the block the image can be read, also when its name is gone. Raises: KernelError."""
    with refused("open", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield Image(descriptor, path)
    finally:
        os.close(descriptor)


@contextmanager
def taken(path: Path, staged: Path) -> Iterator[Image]:
    """Inside the block the image, which has no name any more, is ours alone. staged: a name it has for a moment.

    Raises: KernelError.
    """
    with refused("take", path):
        staged.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.rename(staged)
        descriptor = os.open(staged, os.O_RDWR | os.O_CLOEXEC)
        staged.unlink()
    try:
        yield Image(descriptor, staged)
    finally:
        os.close(descriptor)


@contextmanager
def unnamed(directory: Path) -> Iterator[Image]:
    """Inside the block there is an empty image on the disk of the directory; after it only if it got a name.

    Raises: KernelError.
    """
    check_there(directory)
    with refused("make a file in", directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    try:
        yield Image(descriptor, directory)
    finally:
        os.close(descriptor)


class StagedImages:
    """The images, below STAGED beside the volumes, which become volumes. directory: of volumes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def ensure(self, want: StagedImage) -> None:
        """The image is the volume's backing file, which it becomes by one rename."""
        check_there(want.path)
        if want.path.exists():
            return
        if not want.staged.exists():
            raise KernelError("use", str(want.staged), errno.ENOENT, "what was restored is gone; restore it again")
        make_distinct(want.staged, want.fs)
        with refused("make", want.path):
            want.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            want.staged.rename(want.path)
            sync(want.path.parent)
            sync(want.path.parent.parent)

    def remove(self, want: StagedImage) -> None:
        """Nothing is staged; what became a volume's is the volume's."""
        if is_lost(want.staged):
            return
        check_there(want.staged)
        with refused("delete", want.staged):
            discard(want.staged)

    def owned(self) -> Iterable[StagedImage]:
        """Return those whose process ended in the moment in which they had a name."""
        for disk in disks(self._directory):
            for path in (disk / STAGED).glob("*"):
                with suppress(FileNotFoundError):
                    if time.time() - path.lstat().st_mtime > _FORGOTTEN_S:
                        yield StagedImage(path, path, "")
