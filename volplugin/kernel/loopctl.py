"""The ioctls of loop devices, one function each.

Source: loop(4); linux/loop.h. LOOP_CONFIGURE needs Linux 5.8.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pluginkit.errors import KernelError
from volplugin.kernel.syscalls import refused

_LOOP_CLR_FD = 0x4C01
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_SET_CAPACITY = 0x4C07
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CTL_GET_FREE = 0x4C82
_LO_FLAGS_DIRECT_IO = 16

# struct loop_info64: device, inode, rdevice, offset, sizelimit; number, encrypt_type, encrypt_key_size, flags; file
# name, crypt name, encrypt key; init.
_INFO = struct.Struct("=5Q4I64s64s32s2Q")
_INFO_FLAGS = 8
# struct loop_config: fd, block_size (0: the default), info, 8 reserved words.
_CONFIG = struct.Struct(f"=2I{_INFO.size}s64x")

_MAJOR = 7
_CONTROL = Path("/dev/loop-control")
_SYS_BLOCK = Path("/sys/block")


@dataclass(frozen=True)
class FileId:
    """What a file is, whatever its names are."""

    device: int
    inode: int


def file_id(path: Path) -> FileId | None:
    """Return what the file `path` is, or None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return FileId(found.st_dev, found.st_ino)


def device_id(number: int) -> str:
    """Return the device's major:minor, as in mountinfo."""
    return f"{_MAJOR}:{number}"


def number(device: str) -> int | None:
    """Return the number of the loop device that mountinfo spells so, or None if it is another device."""
    major, _, minor = device.partition(":")
    return int(minor) if major == str(_MAJOR) else None


def device_number(number: int) -> int:
    """Return the device's number, as in st_dev."""
    return os.makedev(_MAJOR, number)


def node(number: int) -> Path:
    """Return the path of the device's node, which exists; in a container's /dev it may have been missing."""
    path = Path(f"/dev/loop{number}")
    if not path.exists():
        with refused("make the device node", path), suppress(FileExistsError):
            os.mknod(path, stat.S_IFBLK | 0o600, device_number(number))
    return path


def in_use() -> Iterator[tuple[int, str]]:
    """Yield the number of every device in use and the path of its file, which may be the path in another namespace."""
    for entry in _SYS_BLOCK.iterdir():
        if entry.name.startswith("loop"):
            number = int(entry.name.removeprefix("loop"))
            if name := backing_file(number):
                yield number, name


def backing_file(number: int) -> str:
    """Return the path of the device's file as the kernel knows it, " (deleted)" at its end if it is; "": it is free."""
    try:
        name = (_SYS_BLOCK / f"loop{number}/loop/backing_file").read_bytes()
    except OSError:
        # Free devices have no such file, and any other may become free at any moment.
        return ""
    return name.decode(encoding="utf-8", errors="surrogateescape").rstrip("\n")


def backing_file_id(number: int) -> FileId | None:
    """Return what file the device is on, or None if it is free."""
    try:
        with _opened(number) as descriptor:
            return FileId(*_status(descriptor)[:2])
    except OSError as exc:
        if exc.errno in {errno.ENXIO, errno.ENODEV}:
            return None
        raise KernelError("look at", str(node(number)), exc.errno or 0) from exc


def is_direct(number: int) -> bool:
    """Return whether the device passes by the host's cache."""
    with refused("look at", node(number)):
        return (_SYS_BLOCK / f"loop{number}/loop/dio").read_text(encoding="ascii").strip() == "1"


def is_autoclear(number: int) -> bool:
    """Return whether the device detaches itself with its last user; also that it has, if it is free."""
    try:
        return (_SYS_BLOCK / f"loop{number}/loop/autoclear").read_text(encoding="ascii").strip() == "1"
    except FileNotFoundError:
        return True


def size_bytes(number: int) -> int:
    """Return the size of the device. Raises: KernelError."""
    with refused("look at", node(number)):
        return int((_SYS_BLOCK / f"loop{number}/size").read_text(encoding="ascii")) * 512


def fit(number: int) -> None:
    """The device is as large as its file. Raises: KernelError."""
    with refused("resize", node(number)), _opened(number) as descriptor:
        fcntl.ioctl(descriptor, _LOOP_SET_CAPACITY)


def free_number() -> int:
    """Return the number of a device that was free a moment ago; its node may be missing."""
    with refused("open", _CONTROL, "in a container, bind the host's /dev into it"):
        control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        with refused("get a free loop device from", _CONTROL):
            return fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
    finally:
        os.close(control)


def configure(number: int, backing: int, sector: int) -> bool:
    """The device is on the file that the descriptor is of; False: it was not free any more.

    It passes by the host's cache, if the file's filesystem and disk allow it with such sectors; if not, the kernel
    leaves that away without a word.

    Raises: OSError: for another reason.
    """
    try:
        with _opened(number, os.O_RDWR) as descriptor:
            info = _INFO.pack(*[0] * _INFO_FLAGS, _LO_FLAGS_DIRECT_IO, b"", b"", b"", 0, 0)
            fcntl.ioctl(descriptor, _LOOP_CONFIGURE, _CONFIG.pack(backing, sector, info))
    except OSError as exc:
        if exc.errno == errno.EBUSY:
            return False
        raise
    return True


def detach(number: int) -> None:
    """The device is free, or will be at its last close: on a device in use the ioctl succeeds with that effect."""
    with suppress(OSError), _opened(number) as descriptor:
        fcntl.ioctl(descriptor, _LOOP_CLR_FD)


@contextmanager
def until_last_close(number: int) -> Iterator[Path]:
    """Inside the block the device stays as it is; from then on it detaches itself when nothing has it mounted or open.

    So neither a death of ours between attaching and mounting, nor an unmount by others (dockerd unmounts all that a
    managed plugin mounted when it disables it), leaves a device behind that nobody knows.
    """
    path = node(number)
    with refused("open", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # A device that is open besides is not detached by this, but will be at its last close. LOOP_SET_STATUS64 sets
        # the flag, too, but has the kernel bring the device to a standstill for it, which takes ten times all the rest.
        with refused("set autoclear of", path), _opened(number) as another:
            fcntl.ioctl(another, _LOOP_CLR_FD)
        yield path
    finally:
        os.close(descriptor)


def _status(descriptor: int) -> tuple[int, ...]:
    return _INFO.unpack(fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(_INFO.size)))


@contextmanager
def _opened(number: int, flags: int = os.O_RDONLY) -> Iterator[int]:
    descriptor = os.open(node(number), flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
