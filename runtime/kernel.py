"""System calls that Python has no functions for: mounts, and network namespaces with a name."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import socket
import struct
import threading
from pathlib import Path

from runtime.errors import Failed

_MS_BIND, _MS_PRIVATE, _MS_SHARED = 0x1000, 1 << 18, 1 << 20
_MNT_DETACH = 2
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_SYS_OPENAT2 = 437  # on every architecture
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
_IFF_UP = 1
_PAGE = 4096  # mount(2) takes no longer options

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise Failed(f"cannot {what}: {os.strerror(number)}")


def mount(source: str, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    """The source is seen at `target`, as a file system of this kind."""
    if len(options) >= _PAGE:
        raise Failed(f"cannot mount {target}: the options have {len(options)} bytes; an image may have fewer layers")
    result = _libc.mount(source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _check(result, f"mount {kind or source} at {target}")


def unmount(target: Path) -> None:
    """Nothing is mounted at `target`."""
    while os.path.ismount(target):
        _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), f"unmount {target}")


def unmount_below(folder: Path) -> None:
    """Nothing is mounted at `folder` or below it; who uses what was there keeps it."""
    # Asked again each time: one may have taken others along.
    while points := _mounts_below(folder):
        _check(_libc.umount2(os.fsencode(points[-1]), _MNT_DETACH), f"unmount {points[-1]}")


def share(folder: Path) -> None:
    """What is mounted below `folder` is mounted wherever `folder` is bound, and the other way round."""
    if folder.resolve() not in _mounts_below(folder):
        mount(str(folder), folder, "", _MS_BIND)
        # Of a group of its own: in that of the parent each mount would be there twice.
        mount("", folder, "", _MS_PRIVATE)
    mount("", folder, "", _MS_SHARED)


def _mounts_below(folder: Path) -> list[Path]:
    # Source: proc(5), mountinfo: the fifth field, with spaces and the like in octal.
    fields = (line.split()[4] for line in Path("/proc/self/mountinfo").read_bytes().splitlines())
    points = (re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), field) for field in fields)
    return [path for point in points if (path := Path(os.fsdecode(point))).is_relative_to(folder.resolve())]


def connect(connection: socket.socket, path: Path) -> None:
    """The connection is one to the Unix socket at `path`, which may be longer than the 107 bytes of sun_path.

    Raises: OSError.
    """
    descriptor = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{descriptor}/{path.name}")
    finally:
        os.close(descriptor)


def mount_overlay(target: Path, lower: list[Path], upper: Path, work: Path) -> None:
    """The layers, topmost first, with `upper` over them, are seen at `target`. Source: overlayfs.rst."""
    if not os.path.ismount(target):
        for folder in (target, upper, work):
            folder.mkdir(parents=True, exist_ok=True)
        layers = ":".join(str(layer) for layer in lower)
        mount("overlay", target, "overlay", options=f"lowerdir={layers},upperdir={upper},workdir={work}")


def create_netns(path: Path) -> None:
    """A network namespace, with its loopback up, exists at `path`."""
    if is_netns(path):
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.touch(mode=0o444)
    failures: list[Failed] = []

    def unshare() -> None:
        # A thread of its own: it ends in the new namespace, and the daemon stays where it is.
        try:
            _check(_libc.unshare(_CLONE_NEWNET), "make a network namespace")
            _bring_up_loopback()
            mount(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net", path, "", _MS_BIND)
        except Failed as exc:
            failures.append(exc)

    thread = threading.Thread(target=unshare)
    thread.start()
    thread.join()
    if failures:
        path.unlink(missing_ok=True)
        raise failures[0]


def is_netns(path: Path) -> bool:
    """Whether a namespace is mounted at `path`."""
    return path.exists() and path.stat().st_dev != path.parent.stat().st_dev


def remove_netns(path: Path) -> None:
    """Nothing is at `path`; the namespace ends with the last process in it."""
    if is_netns(path):
        _check(_libc.umount2(os.fsencode(path), _MNT_DETACH), f"unmount {path}")
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


def open_in_root(root: Path, path: str, flags: int) -> int:
    """Return a descriptor of what `path` means to a process whose root is `root`: no link leads out of it.

    Raises: OSError. Source: openat2(2), RESOLVE_IN_ROOT.
    """
    start = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        found: int = _libc.syscall(_SYS_OPENAT2, start, os.fsencode(path), how, ctypes.c_size_t(len(how)))
        if found < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
        return found
    finally:
        os.close(start)
