"""How large a filesystem is, read from its superblock, mounted or not.

Source: kernel Documentation/filesystems/ext4/super.rst; xfs_db(8) sb; btrfs.readthedocs.io "On-disk Format".
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from volplugin.kernel.syscalls import refused

_EXT4 = struct.Struct("<1024x4xI16xI28xH38xI236xI")  # blocks (low half), block size, magic, features, blocks (high).
# blocks, reserved blocks (low halves), magic, features, both (high halves).
_EXT4_RESERVED = struct.Struct("<1024x4xII44xH38xI236xII")
_EXT4_MAGIC = 0xEF53
# Of each ext4 of ours.
BLOCK_BYTES = 4096
_EXT4_64BIT = 0x80
_XFS = struct.Struct(">4sIQ")  # magic, block size, blocks.
_BTRFS_OFFSET = 64 << 10
_BTRFS = struct.Struct("<64x8s137xQ")  # magic, bytes of the device.


def size_bytes(path: Path, fs: str) -> int | None:
    """Return how far the filesystem on a device or in a file reaches, or None if there is none of that kind."""
    with refused("read the superblock of", path), path.open("rb", buffering=0) as opened:
        return {"ext4": _ext4, "xfs": _xfs, "btrfs": _btrfs}[fs](opened.fileno())


def reserved_percent(path: Path) -> int | None:
    """Return how much of an ext4 only root can fill, or None if there is none. Raises: KernelError."""
    with refused("read the superblock of", path), path.open("rb", buffering=0) as opened:
        content = os.pread(opened.fileno(), _EXT4_RESERVED.size, 0)
    if len(content) < _EXT4_RESERVED.size:
        return None
    low, reserved_low, magic, features, high, reserved_high = _EXT4_RESERVED.unpack(content)
    if features & _EXT4_64BIT:
        low, reserved_low = low | high << 32, reserved_low | reserved_high << 32
    return round(100 * reserved_low / low) if magic == _EXT4_MAGIC and low else None


def _ext4(descriptor: int) -> int | None:
    content = os.pread(descriptor, _EXT4.size, 0)
    if len(content) < _EXT4.size:
        return None
    low, log_block_size, magic, features, high = _EXT4.unpack(content)
    blocks = low | (high << 32 if features & _EXT4_64BIT else 0)
    return blocks << (10 + log_block_size) if magic == _EXT4_MAGIC else None


def _xfs(descriptor: int) -> int | None:
    content = os.pread(descriptor, _XFS.size, 0)
    if len(content) < _XFS.size:
        return None
    magic, block_size, blocks = _XFS.unpack(content)
    return block_size * blocks if magic == b"XFSB" else None


def _btrfs(descriptor: int) -> int | None:
    content = os.pread(descriptor, _BTRFS.size, _BTRFS_OFFSET)
    if len(content) < _BTRFS.size:
        return None
    magic, size = _BTRFS.unpack(content)
    return size if magic == b"_BHRfS_M" else None
