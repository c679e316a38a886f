"""Where two files are the same, by where they are on the disk: what they share need not be read to know that.

Source: kernel Documentation/filesystems/fiemap.rst; linux/fiemap.h.
"""

from __future__ import annotations

import fcntl
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator

_FS_IOC_FIEMAP = 0xC020660B
_FLAG_SYNC = 0x1
# struct fiemap: start, length; flags, mapped extents, extent count, reserved. struct fiemap_extent: logical, physical,
# length, two reserved; flags, three reserved.
_REQUEST = struct.Struct("=2Q4I")
_EXTENT = struct.Struct("=5Q4I")
_AT_ONCE = 512
_LAST = 0x1
# Shared, merged by the kernel for us, and the last one are the flags of an extent whose place says what it holds.
_PLAIN = _LAST | 0x1000 | 0x2000
_HOLE, _UNKNOWN = "a hole", "unknown"

# From where to where, and how far on the disk it is from there; None: that says nothing.
_Place = tuple[int, int, int | None]


def differing(one: int, other: int, size: int, chunk_bytes: int) -> set[int]:
    """Return the chunks of the first `size` bytes that may differ between the files that the descriptors are of.

    Both must stay as they are, and both be open, as long as anybody relies on it. Raises: OSError: it cannot be told.
    """
    places = [list(_places(one)), list(_places(other))]
    starts = [[place[0] for place in each] for each in places]
    bounds = {0, *(bound for each in places for start, end, _ in each for bound in (start, end))}
    inside = sorted(bound for bound in bounds if bound < size)
    found: set[int] = set()
    for begin, end in zip(inside, [*inside[1:], size], strict=True):
        mine, others = (_at(each, known, begin) for each, known in zip(places, starts, strict=True))
        if mine != others or mine == _UNKNOWN:
            found.update(range(begin // chunk_bytes, -(-end // chunk_bytes)))
    return found


def _at(places: list[_Place], starts: list[int], offset: int) -> int | str:
    """Return how far on the disk the byte at `offset` is from there, or that it is in a hole, or not known."""
    index = bisect_right(starts, offset) - 1
    if index < 0 or offset >= places[index][1]:
        return _HOLE
    shift = places[index][2]
    return _UNKNOWN if shift is None else shift


def _places(descriptor: int) -> Iterator[_Place]:
    """Yield where the file's data is, in order."""
    start, size = 0, os.fstat(descriptor).st_size
    while start < size:
        request = bytearray(_REQUEST.size + _AT_ONCE * _EXTENT.size)
        _REQUEST.pack_into(request, 0, start, size - start, _FLAG_SYNC, 0, _AT_ONCE, 0)
        fcntl.ioctl(descriptor, _FS_IOC_FIEMAP, request)
        count = _REQUEST.unpack_from(request)[3]
        flags = _LAST
        for index in range(count):
            found = _EXTENT.unpack_from(request, _REQUEST.size + index * _EXTENT.size)
            logical, physical, length, _, _, flags = found[:6]
            yield logical, logical + length, None if flags & ~_PLAIN else physical - logical
            start = logical + length
        if not count or flags & _LAST:
            return
