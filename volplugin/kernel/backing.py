"""Backing files: one directory a volume, sparse or allocated, deleted only with the volume.

A file under its final name holds a complete filesystem. Until then it has a name with NEW at its end, so whatever has
that is left over from an interrupted creation. A deletion begins with a move into the trash directory, so whatever is
in there is left over from an interrupted deletion.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pluginkit.errors import KernelError
from volplugin.kernel import resizing, superblock
from volplugin.kernel.disks import check_there, disks, is_lost, without_file
from volplugin.kernel.loopdev import LoopDevices
from volplugin.kernel.syscalls import allocate, refused
from volplugin.resources import BackingFile

NEW = ".new"
# No volume's name starts with a dot.
_TRASH = ".trash"


class BackingFiles:
    """The backing files of the volumes below one directory, of its pools, and of the volumes in these."""

    def __init__(self, directory: Path, devices: LoopDevices) -> None:
        self._directory = directory
        self._devices = devices

    def ensure(self, want: BackingFile) -> None:
        """The file is there under its final name with the right size, or else blank with NEW at the name's end.

        Beside the finished one there is nothing else: what an interrupted copy left has gone.
        """
        check_there(want.path)
        with refused("use", want.path):
            try:
                found = want.path.stat()
            except FileNotFoundError as exc:
                if want.trash is not None and want.trash.exists():
                    _move(want.trash, want.path)
                    found = want.path.stat()
                elif not want.may_create:
                    raise KernelError("use", str(want.path), errno.ENOENT, without_file(want.path)) from exc
                else:
                    _create_blank(want)
                    return
        with refused("delete", want.path):
            discard(want.path.with_name(want.path.name + NEW))
        if found.st_size != want.size_bytes:
            self._resize(want, found.st_size)
            found = want.path.stat()
        if not want.sparse and found.st_blocks * 512 < want.size_bytes:
            # Somebody made holes, by fstrim perhaps.
            descriptor = os.open(want.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                _allocate(descriptor, want)
            finally:
                os.close(descriptor)

    def _resize(self, want: BackingFile, size: int) -> None:
        """The file has the size that is wanted, and its filesystem has lost nothing.

        Raises: KernelError: it ends before its filesystem does, or would: that is no resizing, but damage.
        """
        content = superblock.size_bytes(want.path, want.fs)
        if content is None or content > size:
            hint = f"it has {size} bytes and should have {want.size_bytes}, and its filesystem is not whole"
            raise KernelError("use", str(want.path), errno.EIO, hint)
        if content > want.size_bytes:
            if not want.shrinks:
                hint = f"its filesystem has {content} bytes and should have {want.size_bytes}"
                raise KernelError("use", str(want.path), errno.EIO, hint)
            if not self._devices.wait_released(want.path):
                hint = f"it is still mounted: {self._devices.describe_holders(want.path)}"
                raise KernelError("shrink", str(want.path), errno.EBUSY, hint)
            resizing.shrink(want.path, want.size_bytes, want.path.with_name(want.path.name + NEW))
            sync(want.path.parent)
            return
        with refused("resize", want.path):
            os.truncate(want.path, want.size_bytes)

    def remove(self, want: BackingFile) -> None:
        """The volume's directory is gone and its space is free, unless its file is wanted in the trash.

        Raises: KernelError: a loop device is still on the file, and its holder keeps the space; nothing was deleted.
        """
        if is_lost(want.path):
            return
        check_there(want.path)
        directory = want.path.parent
        if not self._devices.wait_released(want.path):
            hint = f"it is still mounted: {self._devices.describe_holders(want.path)}"
            raise KernelError("delete", str(want.path), errno.EBUSY, hint)
        if want.trash is not None and want.path.exists():
            with refused("put into the trash", want.path):
                _move(want.path, want.trash)
        trash = directory.parent if directory.parent.name == _TRASH else directory.parent / _TRASH
        doomed = trash / directory.name
        with refused("delete", directory):
            if directory.parent != trash:
                discard(doomed)
                trash.mkdir(mode=0o700, parents=True, exist_ok=True)
                with suppress(FileNotFoundError):
                    directory.rename(doomed)
                    sync(directory.parent)
            discard(doomed)

    def owned(self) -> Iterable[BackingFile]:
        """Return what interrupted creations and deletions left. A finished file that no record wants is never listed.

        It may be all that is left of somebody's data.
        """
        for disk in disks(self._directory):
            for directory in _subdirectories(disk / _TRASH):
                yield BackingFile(directory / "any", 0, may_create=False)
            for directory in _volumes(disk):
                # It may be removed just now.
                with suppress(FileNotFoundError):
                    if _is_finished(directory):
                        continue
                    yield BackingFile(directory / "any", 0, may_create=False)


def is_taken(path: Path) -> bool:
    """Tell whether there is a finished file in the directory of the backing file `path`, whatever is in it."""
    with suppress(FileNotFoundError):
        return _is_finished(path.parent)
    return False


def finished(directory: Path) -> list[str]:
    """Return the names of the volumes that have a finished file below `directory`, recorded or not."""
    found = []
    for entry in _volumes(directory):
        with suppress(FileNotFoundError):
            found += [entry.name] if _is_finished(entry) else []
    return found


def sync(directory: Path) -> None:
    """The names in `directory` are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def discard(path: Path) -> None:
    """The file or directory is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _move(path: Path, target: Path) -> None:
    """The file is at `target`, also after a power cut."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.rename(target)
    for directory in (target.parent, target.parent.parent, path.parent):
        sync(directory)


def _create_blank(want: BackingFile) -> None:
    new = want.path.with_name(want.path.name + NEW)
    want.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # An earlier attempt may have been cut short at any point of formatting.
    discard(new)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, want.size_bytes)
        if not want.sparse:
            _allocate(descriptor, want)
    finally:
        os.close(descriptor)


def _allocate(descriptor: int, want: BackingFile) -> None:
    with refused("allocate", want.path, "sparse=true takes space only when it is written to"):
        disk = os.fstatvfs(descriptor)
        missing = want.size_bytes - os.fstat(descriptor).st_blocks * 512
        # The kernel would find out only when the disk is full, to the harm of everybody on it.
        if missing > disk.f_bavail * disk.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocate(descriptor, want.size_bytes)


def _is_finished(directory: Path) -> bool:
    return any(not entry.name.endswith(NEW) for entry in directory.iterdir())


def _volumes(directory: Path) -> list[Path]:
    return [entry for entry in _subdirectories(directory) if not entry.name.startswith(".")]


def _subdirectories(directory: Path) -> list[Path]:
    try:
        return sorted(entry for entry in directory.iterdir() if entry.is_dir())
    except FileNotFoundError:
        return []
