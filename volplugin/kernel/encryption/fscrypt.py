"""Encrypted trees: content and names of all that is in a directory, by a key that the kernel has while it is mounted.

The kernel takes any key for good and tells its identifier; whether it is the right one, the directory's policy says. A
key goes with the filesystem's last mount. It lies in the kernel alone, and in buffers that are zeroed when it is there.

Source: kernel Documentation/filesystems/fscrypt.rst; linux/fscrypt.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pluginkit.errors import KernelError
from volplugin.kernel.syscalls import refused

_SET_POLICY = 0x800C6613
_GET_POLICY = 0xC0096616
_ADD_KEY = 0xC0506617
_REMOVE_KEY = 0xC0406618
_KEY_STATUS = 0xC080661A

# Version, the ciphers AES-256-XTS of contents and AES-256-CTS of names, names padded to 32 bytes, the key's identifier.
_POLICY = struct.Struct("=4B4x16s")
_V2 = (2, 1, 4, 3)
_POLICY_SIZE = struct.Struct("=Q")
# A key is named by its identifier, which takes the first 16 of 32 bytes.
_NAMED = struct.Struct("=I4x16s16x")
_BY_IDENTIFIER = 2
_KEY = struct.Struct("=40sI36x")  # Whose identifier the kernel fills in, bytes of the key; then the key.
_REMOVAL_BYTES = 64
_STATUS = struct.Struct("=64xI60x")
_PRESENT = 2

_NOT_ENCRYPTED = (errno.ENODATA, errno.EOPNOTSUPP)


def unlock(tree: Path, key: bytearray) -> None:
    """What is in the directory can be read, and whatever comes into it is encrypted with the key.

    An empty one that was never encrypted is from now on, unless it is read-only.

    Raises: KernelError: it was encrypted with another key, or has files that are not encrypted. The kernel has the key
    no more.
    """
    with _opened(tree) as directory:
        with refused("look at", tree):
            wanted = _policy(directory)
        with refused("add a key to", tree):
            added = _add(directory, key)
        try:
            if wanted is None:
                _encrypt(directory, added, tree)
            elif added != wanted:
                raise KernelError("decrypt", str(tree), errno.EKEYREJECTED, "the volume was encrypted with another key")
        except BaseException:
            # Files of a key that is in use keep it.
            with suppress(OSError):
                fcntl.ioctl(directory, _REMOVE_KEY, bytearray(_NAMED.pack(_BY_IDENTIFIER, added).ljust(_REMOVAL_BYTES)))
            raise


def is_unlocked(tree: Path) -> bool:
    """Tell whether the directory is encrypted, and the kernel has its key. Raises: KernelError."""
    with _opened(tree) as directory, refused("look at", tree):
        wanted = _policy(directory)
        if wanted is None:
            return False
        status = bytearray(_STATUS.size)
        _NAMED.pack_into(status, 0, _BY_IDENTIFIER, wanted)
        fcntl.ioctl(directory, _KEY_STATUS, status)
        return bool(_STATUS.unpack(status)[0] == _PRESENT)


def _encrypt(directory: int, identifier: bytes, tree: Path) -> None:
    if os.listdir(directory):
        raise KernelError("encrypt", str(tree), errno.ENOTEMPTY, "there are files in it that are not encrypted")
    with refused("encrypt", tree):
        try:
            fcntl.ioctl(directory, _SET_POLICY, bytearray(_POLICY.pack(*_V2, identifier)))
        except OSError as exc:
            # It is empty, and stays so.
            if exc.errno != errno.EROFS:
                raise


def _policy(directory: int) -> bytes | None:
    """Return the identifier of the key that the directory is encrypted with, or None if it is not."""
    told = bytearray(_POLICY_SIZE.size + _POLICY.size)
    _POLICY_SIZE.pack_into(told, 0, _POLICY.size)
    try:
        fcntl.ioctl(directory, _GET_POLICY, told)
    except OSError as exc:
        if exc.errno in _NOT_ENCRYPTED:
            return None
        raise
    return bytes(_POLICY.unpack_from(told, _POLICY_SIZE.size)[-1])


def _add(directory: int, key: bytearray) -> bytes:
    told = bytearray(_KEY.size) + key
    try:
        _KEY.pack_into(told, 0, _NAMED.pack(_BY_IDENTIFIER, b""), len(key))
        fcntl.ioctl(directory, _ADD_KEY, told)
        return bytes(_NAMED.unpack_from(told)[1])
    finally:
        told[:] = bytes(len(told))


@contextmanager
def _opened(tree: Path) -> Iterator[int]:
    with refused("open", tree):
        directory = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)
