"""`docker cp`: files of a container as a tar archive, out and in.

A running container changes its links while it is read, so every step is taken from an open directory and no link is
followed but within the container's root. Source: openat2(2); CVE-2018-15664 for what happens otherwise.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from runtime import kernel
from runtime.containers.bundles import Bundles
from runtime.containers.record import Container
from runtime.errors import BadParameter, NotFound

_LIMIT_DEPTH = 200


@dataclass(frozen=True)
class PathStat:
    """What the Engine API says of a path. mode: as Go's os.FileMode has it."""

    name: str
    size: int
    mode: int
    mtime: float
    link: str


class Files:
    """The files of containers, whether they run or not."""

    def __init__(self, bundles: Bundles) -> None:
        self._bundles = bundles

    @contextmanager
    def root(self, container: Container) -> Iterator[Path]:
        """The container's root directory is at the given path, with its mounts if it runs."""
        if container.alive:
            yield Path(f"/proc/{container.pid}/root")
            return
        try:
            yield self._bundles.mount(container)
        finally:
            self._bundles.unmount(container)

    def stat(self, container: Container, path: str) -> PathStat:
        """Return what is at the path.

        Raises: NotFound.
        """
        with self.root(container) as root, _parent(root, path, container) as (parent, name):
            return _stat(parent, name, path, container)

    def pack(self, container: Container, path: str, write: Callable[[bytes], None]) -> None:
        """The path and all below it has been written as a tar archive."""
        with self.root(container) as root, _parent(root, path, container) as (parent, name):
            with tarfile.open(
                fileobj=cast("IO[bytes]", _Writer(write)), mode="w|", format=tarfile.PAX_FORMAT
            ) as archive:
                _pack(archive, parent, name, posixpath.basename(posixpath.normpath(path)) or "/", 0)

    def unpack(self, container: Container, path: str, archive: IO[bytes], keep_kind: bool) -> None:
        """What the tar archive holds is in the directory `path`; keep_kind: no directory replaces a file, or one it.

        Raises: NotFound; BadParameter: no directory, or an archive that leads out of it.
        """
        with self.root(container) as root:
            try:
                os.close(kernel.open_in_root(root, path, os.O_PATH | os.O_DIRECTORY))
            except OSError as exc:
                raise NotFound(f"Could not find the file {path} in container {container.name}") from exc
            try:
                with tarfile.open(fileobj=archive, mode="r|*") as entries:
                    for entry in entries:
                        _unpack(entries, entry, root, path, keep_kind)
            except (tarfile.TarError, OSError) as exc:
                raise BadParameter(f"cannot copy to {container.name}:{path}: {exc}") from exc


class _Writer:
    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def write(self, content: bytes) -> int:
        """The content is on its way."""
        self._write(content)
        return len(content)


@contextmanager
def _parent(root: Path, path: str, container: Container) -> Iterator[tuple[int, str]]:
    """An open directory, and the name in it that `path` means. A trailing `/.` means what a link leads to."""
    cut = path.rstrip("/")
    folder, name = posixpath.split(cut)
    if name in ("", ".", ".."):
        folder, name = cut or "/", "."
    try:
        descriptor = kernel.open_in_root(root, folder or "/", os.O_RDONLY | os.O_DIRECTORY)
    except OSError as exc:
        raise NotFound(f"Could not find the file {path} in container {container.name}") from exc
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)


def _stat(parent: int, name: str, path: str, container: Container) -> PathStat:
    try:
        told = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError as exc:
        raise NotFound(f"Could not find the file {path} in container {container.name}") from exc
    kinds = ((stat.S_ISDIR, 1 << 31), (stat.S_ISLNK, 1 << 27), (stat.S_ISFIFO, 1 << 25), (stat.S_ISSOCK, 1 << 24))
    mode = stat.S_IMODE(told.st_mode) & 0o777 | sum(bit for fits, bit in kinds if fits(told.st_mode))
    link = os.readlink(name, dir_fd=parent) if stat.S_ISLNK(told.st_mode) else ""
    return PathStat(posixpath.basename(posixpath.normpath(path)) or "/", told.st_size, mode, told.st_mtime, link)


def _pack(archive: tarfile.TarFile, parent: int, name: str, shown: str, depth: int) -> None:
    told = os.stat(name, dir_fd=parent, follow_symlinks=False)
    entry = tarfile.TarInfo(shown)
    entry.mode, entry.uid, entry.gid, entry.mtime = stat.S_IMODE(told.st_mode), told.st_uid, told.st_gid, told.st_mtime
    if stat.S_ISREG(told.st_mode):
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        with os.fdopen(descriptor, "rb") as content:
            entry.size = os.fstat(descriptor).st_size
            archive.addfile(entry, content)
    elif stat.S_ISLNK(told.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=parent)
        archive.addfile(entry)
    elif stat.S_ISDIR(told.st_mode) and depth < _LIMIT_DEPTH:
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            with os.scandir(folder) as found:
                names = sorted(each.name for each in found)
            for inner in names:
                # Gone in the meantime: the container runs.
                with contextlib.suppress(FileNotFoundError):
                    _pack(archive, folder, inner, f"{shown.rstrip('/')}/{inner}", depth + 1)
        finally:
            os.close(folder)


def _unpack(entries: tarfile.TarFile, entry: tarfile.TarInfo, root: Path, path: str, keep_kind: bool) -> None:
    parts = [part for part in entry.name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadParameter(f"cannot copy {entry.name!r}: it leads out of the archive")
    if not parts:
        return
    folder = _folder(root, path, parts[:-1])
    try:
        _make(entries, entry, folder, parts[-1], keep_kind)
    finally:
        os.close(folder)


def _folder(root: Path, path: str, parts: list[str]) -> int:
    """Return the open directory; what is missing of it is made."""
    descriptor = kernel.open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY)
    for number, part in enumerate(parts, 1):
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=descriptor)
            inner = kernel.open_in_root(root, posixpath.join(path, *parts[:number]), os.O_RDONLY | os.O_DIRECTORY)
        finally:
            os.close(descriptor)
        descriptor = inner
    return descriptor


def _make(entries: tarfile.TarFile, entry: tarfile.TarInfo, folder: int, name: str, keep_kind: bool) -> None:
    with contextlib.suppress(FileNotFoundError):
        is_folder = stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        if is_folder != entry.isdir() and keep_kind:
            raise BadParameter(f"cannot copy {name!r}: a directory cannot replace a file there, nor a file a directory")
        if is_folder and not entry.isdir():
            shutil.rmtree(name, dir_fd=folder)
        elif not is_folder:
            os.unlink(name, dir_fd=folder)
    if entry.isdir():
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
    elif entry.isreg():
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        source = entries.extractfile(entry)
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb") as target:
            if source is not None:
                shutil.copyfileobj(source, target, 1 << 20)
    elif entry.issym():
        os.symlink(entry.linkname, name, dir_fd=folder)
    else:
        raise BadParameter(f"cannot copy {name!r}: only files, directories and symbolic links can be copied in")
    os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
    os.utime(name, (entry.mtime, entry.mtime), dir_fd=folder, follow_symlinks=False)
    if not entry.issym():
        # Linux changes no mode without following: what is opened is what was made, or nothing.
        made = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.fchmod(made, stat.S_IMODE(entry.mode))
        finally:
            os.close(made)
