"""A layer's tar archive becomes a directory of overlayfs. The archive is not trusted.

Every entry lands below the directory: a name with `..`, or one that leads through a link that the archive itself made,
is refused. So are devices, and archives that do not fit on the disk.
Source: OCI image-spec, layer.md (whiteouts); kernel overlayfs.rst (their form there).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tarfile
from pathlib import Path
from typing import IO

from runtime.errors import BadParameter

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MAX_ENTRIES = 2_000_000
# What file(1) capabilities and users set. Those of overlayfs itself would let an archive hide what lies below.
_XATTR = "SCHILY.xattr."
_XATTRS = ("security.capability", "user.")


def unpack(archive: IO[bytes], folder: Path) -> int:
    """What the tar archive holds lies below the empty `folder`; return the bytes of its files.

    Raises: BadParameter: it is no tar archive, or a hostile one; what was unpacked lies there still.
    """
    size = 0
    folders: list[tuple[Path, tarfile.TarInfo]] = []
    try:
        with tarfile.open(fileobj=archive, mode="r|") as entries:
            for number, entry in enumerate(entries):
                if number >= _MAX_ENTRIES:
                    raise BadParameter(f"cannot unpack the archive: it has more than {_MAX_ENTRIES} entries")
                size += _unpack_entry(entries, entry, folder, folders)
        for path, entry in reversed(folders):
            os.utime(path, (entry.mtime, entry.mtime))
    except tarfile.TarError as exc:
        raise BadParameter(f"cannot unpack the archive: {exc}; is it a tar file?") from exc
    except OSError as exc:
        raise BadParameter(f"cannot unpack the archive: {exc.strerror or exc}") from exc
    except (ValueError, OverflowError) as exc:
        # A header can hold numbers that no file can have, and names that no system call takes.
        raise BadParameter(f"cannot unpack the archive: {exc}; is it damaged?") from exc
    return size


def locate(folder: Path, name: str) -> Path:
    """Return where the entry `name` belongs; its parents exist and are directories below `folder`.

    Raises: BadParameter: it leads out of the folder.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise BadParameter(f"cannot unpack {name!r}: it leads out of the archive")
    path = folder
    for part in parts[:-1]:
        path = path / part
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            path.mkdir(mode=0o755)
        else:
            if not stat.S_ISDIR(mode):
                raise BadParameter(f"cannot unpack {name!r}: {part!r} is no directory in this archive")
    return path / parts[-1] if parts else folder


def _unpack_entry(
    entries: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path, folders: list[tuple[Path, tarfile.TarInfo]]
) -> int:
    path = locate(folder, entry.name)
    if path.name.startswith(_WHITEOUT):
        _whiteout(path)
        return 0
    if entry.isdir():
        if not path.is_dir() or path.is_symlink():
            _clear(path)
            path.mkdir()
        folders.append((path, entry))
    elif path == folder:
        raise BadParameter("cannot unpack the archive: its root is no directory")
    else:
        _clear(path)
        _make(entries, entry, path, folder)
    if not entry.islnk():
        _own(path, entry)
    return entry.size if entry.isreg() else len(entry.linkname) if entry.issym() else 0


def _make(entries: tarfile.TarFile, entry: tarfile.TarInfo, path: Path, folder: Path) -> None:
    if entry.isreg():
        available = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        if entry.size > available:
            raise BadParameter(
                f"cannot unpack {entry.name!r}: it has {entry.size} bytes, and {available} are available"
            )
        source = entries.extractfile(entry)
        with path.open("xb") as target:
            if source is not None:
                shutil.copyfileobj(source, target, 1 << 20)
    elif entry.issym():
        path.symlink_to(entry.linkname)
    elif entry.islnk():
        other = locate(folder, entry.linkname)
        if not os.path.lexists(other):
            raise BadParameter(f"cannot unpack {entry.name!r}: it links to {entry.linkname!r}, which is not there")
        os.link(other, path, follow_symlinks=False)
    elif entry.isfifo():
        os.mkfifo(path)
    else:
        raise BadParameter(f"cannot unpack {entry.name!r}: a device, or something else that no layer may hold")


def _own(path: Path, entry: tarfile.TarInfo) -> None:
    os.lchown(path, entry.uid, entry.gid)
    for name, value in entry.pax_headers.items():
        name = name.removeprefix(_XATTR)
        if name.startswith(_XATTRS):
            # A file system without such attributes keeps the file.
            with contextlib.suppress(OSError):
                os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
    if not entry.issym():
        path.chmod(stat.S_IMODE(entry.mode))
    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)


def _whiteout(path: Path) -> None:
    if path.name == _OPAQUE:
        os.setxattr(path.parent, "trusted.overlay.opaque", b"y")
    elif not path.name.startswith(".wh..wh."):  # aufs's own
        hidden = path.with_name(path.name.removeprefix(_WHITEOUT))
        if hidden.name in ("", ".", ".."):
            raise BadParameter(f"cannot unpack {path.name!r}: it leads out of the archive")
        _clear(hidden)
        os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0))


def _clear(path: Path) -> None:
    """Nothing is at `path`, so that what follows is made and never written through what was there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
