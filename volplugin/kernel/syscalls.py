"""System calls for which Python has no names. Each raises OSError, which `refused` turns into a KernelError.

Source: mount(2), umount2(2), fallocate(2), openat2(2), open_tree(2), mount_setattr(2), move_mount(2); the numbers are
the same on every architecture but Alpha. Needs Linux 5.12.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pluginkit.errors import KernelError

_MS_NOSUID = 0x2
_MS_NODEV = 0x4
_MS_FLAGS = {"ro": 0x1, "noexec": 0x8, "noatime": 0x400}
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000
_MNT_DETACH = 0x2
_UMOUNT_NOFOLLOW = 0x8
_CLONE_FS = 0x200
_CLONE_NEWNS = 0x20000
_FALLOC_FL_KEEP_SIZE = 0x1
_FALLOC_FL_PUNCH_HOLE = 0x2

_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442

_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 0x1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOUNT_ATTR_RDONLY = 0x1
_MOUNT_ATTR_NOSUID = 0x2
_MOUNT_ATTR_NODEV = 0x4
_MOUNT_ATTR_ATIME = 0x70  # A field of three bits, to be cleared before it is set.
_MOUNT_ATTRS = {"ro": _MOUNT_ATTR_RDONLY, "noexec": 0x8, "noatime": 0x10}

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


@contextmanager
def refused(operation: str, subject: Path | str, hint: str = "") -> Iterator[None]:
    """An OSError that left the block has become a KernelError."""
    try:
        yield
    except OSError as exc:
        raise KernelError(operation, str(subject), exc.errno or 0, hint) from exc


def mount(device: Path, target: Path, fs: str, options: Sequence[str]) -> None:
    """The filesystem on `device` is mounted at `target`, without set-user-ID and device files."""
    flags = _MS_NOSUID | _MS_NODEV | sum(_MS_FLAGS[word] for word in options if word in _MS_FLAGS)
    data = ",".join(word for word in options if word not in _MS_FLAGS)
    _checked(_libc.mount(os.fsencode(device), os.fsencode(target), fs.encode(), flags, data.encode()))


def allocate(descriptor: int, size: int) -> None:
    """The first `size` bytes of the file are on the disk; what was not reads as zeros. Never done by writing zeros."""
    _checked(_libc.fallocate(descriptor, 0, ctypes.c_int64(0), ctypes.c_int64(size)))


def sync_filesystem(descriptor: int) -> None:
    """What was written to the filesystem of the file is on the disk."""
    _checked(_libc.syncfs(descriptor))


def punch(descriptor: int, offset: int, size: int) -> None:
    """There is a hole of `size` bytes in the file."""
    mode = _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE
    _checked(_libc.fallocate(descriptor, mode, ctypes.c_int64(offset), ctypes.c_int64(size)))


def separate_mounts() -> None:
    """This thread is in a mount namespace of its own, of which others see nothing, and in which nothing can be written.

    That is, to what is mounted now.
    """
    _checked(_libc.unshare(_CLONE_NEWNS))
    _checked(_libc.mount(b"none", b"/", None, _MS_PRIVATE | _MS_REC, None))
    attr = _MountAttr(attr_set=_MOUNT_ATTR_RDONLY)
    size = ctypes.c_size_t(ctypes.sizeof(attr))
    _syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, ctypes.byref(attr), size)


def return_to(namespace: int) -> None:
    """This thread is in the mount namespace that the descriptor is of."""
    # A thread that is just ending may still share our root and working directory; setns wants them alone.
    _checked(_libc.unshare(_CLONE_FS))
    _checked(_libc.setns(namespace, _CLONE_NEWNS))


def unmount(target: Path, *, lazy: bool = False) -> None:
    """The topmost mount at `target` is gone. lazy: whoever uses it keeps it, where nobody else can reach it."""
    _checked(_libc.umount2(os.fsencode(target), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)))


def open_beneath(directory: int, path: str, flags: int = os.O_PATH | os.O_DIRECTORY) -> int:
    """Return a descriptor of `path` below `directory`, reached without following any link."""
    how = _OpenHow(
        flags | os.O_CLOEXEC,
        0,
        _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS,
    )
    return _syscall(_SYS_OPENAT2, directory, os.fsencode(path), ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)))


def bind_mount(directory: int, target: Path, options: Sequence[str] = ()) -> None:
    """The directory that the descriptor is of is mounted at `target` too, without set-user-ID and device files.

    The mount has its attributes before it has its place, and those of the mount it is a copy of (read-only, say) stay.
    """
    tree = _syscall(_SYS_OPEN_TREE, directory, b"", _AT_EMPTY_PATH | _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC)
    try:
        attr = _MountAttr(attr_set=_MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV | sum(_MOUNT_ATTRS[word] for word in options))
        if "noatime" in options:
            attr.attr_clr = _MOUNT_ATTR_ATIME
        size = ctypes.c_size_t(ctypes.sizeof(attr))
        _syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(attr), size)
        _syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)


def _syscall(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    return _checked(result)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
