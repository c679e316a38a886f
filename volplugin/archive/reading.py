"""How an archive is read: every byte of it is checked, and what it holds may go into an image."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

import msgspec
import zstandard

from volplugin.archive import contents
from volplugin.archive.contents import CHUNK_BYTES, End, Header, Reference
from volplugin.archive.frames import DATA, END, HEADER, ZEROS, Damaged, Frame, FrameReader
from volplugin.archive.progress import Bar
from volplugin.values import rough_size

# Of the last frame, for each chunk: its number and digest as msgpack has them; and what is around all of them.
_ENTRY_BYTES = 48
_REST_BYTES = 1024


class Target(Protocol):
    """An image that is being filled."""

    def check_room(self, needed: int) -> None:
        """Raises: Exhausted: the disk has no room for so many bytes."""

    def resize(self, size: int) -> None:
        """It has that size; what is new of it is zeros."""

    def write(self, offset: int, content: bytes) -> None:
        """`content` is there, where only zeros were."""

    def clear(self, offset: int, length: int) -> None:
        """Only zeros are there."""


class Nowhere:
    """An image of which nobody wants to know more than that it could be made."""

    def check_room(self, needed: int) -> None:
        """It takes none."""

    def resize(self, size: int) -> None:
        """It has no size."""

    def write(self, offset: int, content: bytes) -> None:
        """It is gone."""

    def clear(self, offset: int, length: int) -> None:
        """Nothing was there."""


@dataclass
class Restored:
    """What the target holds, and from which archives; at first nothing. header: the last one that was met."""

    target: Target
    header: Header | None = None
    digests: dict[int, bytes] = field(default_factory=dict)
    reference: Reference | None = None

    @property
    def volume(self) -> str:
        """What was its name."""
        return self.header.volume if self.header else ""

    @property
    def content(self) -> str:
        """The digest of all of it."""
        return contents.content_digest(self.header.size if self.header else 0, self.digests)


def read_archive(reader: FrameReader, into: Restored, accept: Callable[[Header], object], bar: Bar) -> None:
    """The target holds what the volume was, which the archive's end confirms.

    accept: called with the header before anything is put into the target. Raises: Damaged, BadRequest, Exhausted; what
    the target or `accept` raises. What is in the target then is worth nothing.
    """
    first = True
    for frame in reader.frames():
        if frame.kind == HEADER:
            _begin(reader, frame, into, first=first)
            if first:
                accept(frame.header)
                into.target.check_room(frame.header.data_bytes)
                bar.expect(frame.header.data_bytes)
                first = False
            into.target.resize(frame.header.size)
        elif frame.kind == DATA:
            bar.advance(_fill(reader, frame, into))
        elif frame.kind == ZEROS:
            _clear(reader, frame, into)
        elif frame.kind == END:
            _confirm(reader, frame, into)
        else:
            raise reader.damaged(f"its frame {frame.number} is of a kind that is not known here")


def _begin(reader: FrameReader, frame: Frame, into: Restored, *, first: bool) -> None:
    header, before = frame.header, into.header
    if header.frames != frame.number or not contents.is_sized(header):
        raise reader.damaged("its header contradicts itself")
    if first:
        if header.base != into.reference:
            raise reader.damaged(_misplaced(header, into))
    elif before is None or (before.archive, before.base) != (header.archive, header.base):
        raise reader.damaged("it is put together from several")
    into.header = header
    into.digests = {number: digest for number, digest in into.digests.items() if number < header.chunks}


def _misplaced(header: Header, into: Restored) -> str:
    if header.base is None:
        return "it is whole in itself, and must be the first one; give one such archive and what was made since it"
    after = "that is not the one before it" if into.reference else "give that one before it"
    return f"it has only what changed since the archive {header.base.archive}; {after}"


def _fill(reader: FrameReader, frame: Frame, into: Restored) -> int:
    number, digest, packed = _number(reader, frame, contents.DATA)
    wanted = frame.header.chunk_bytes(number)
    content = _decompressed(reader, frame, packed, wanted)
    if len(content) != wanted or sha256(content).digest() != digest:
        raise reader.damaged(f"the content of its frame {frame.number} is not what was written")
    if number in into.digests:
        into.target.clear(number * CHUNK_BYTES, wanted)
    into.target.write(number * CHUNK_BYTES, content)
    into.digests[number] = digest
    return wanted


def _clear(reader: FrameReader, frame: Frame, into: Restored) -> None:
    number, _, _ = _number(reader, frame, contents.ZEROS)
    into.target.clear(number * CHUNK_BYTES, frame.header.chunk_bytes(number))
    into.digests.pop(number, None)


def read_end(reader: FrameReader) -> Restored:
    """Return what a target would hold after the archive; of which only the end is looked at. Raises: as `frames`."""
    frame = reader.end()
    restored = Restored(Nowhere(), frame.header, _parse_end(reader, frame).digests)
    restored.reference = Reference(frame.header.archive, restored.content)
    return restored


def resume(reader: FrameReader, into: Restored, accept: Callable[[Header], object], bar: Bar) -> bool:
    """Tell whether the archive has a beginning, which `into` now has, and after which it can be continued.

    Raises: BadRequest; what `accept` raises.
    """
    base = into.reference
    with suppress(Damaged):
        read_archive(reader, into, accept, bar)
    # Also if it had an end: that will not be where it was.
    into.reference = base
    return into.header is not None


def _confirm(reader: FrameReader, frame: Frame, into: Restored) -> None:
    end = _parse_end(reader, frame)
    if end.frames != frame.number or end.digests != into.digests:
        raise reader.damaged("what it holds is not what its end says")
    into.reference = Reference(frame.header.archive, into.content)


def _parse_end(reader: FrameReader, frame: Frame) -> End:
    limit = frame.header.chunks * _ENTRY_BYTES + _REST_BYTES
    try:
        return msgspec.msgpack.decode(_decompressed(reader, frame, frame.body, limit), type=End)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise reader.damaged(f"its end cannot be read: {exc}") from exc


def _number(reader: FrameReader, frame: Frame, layout: struct.Struct) -> tuple[int, bytes, bytes]:
    """Return the number of a chunk that the volume has, the digest if there is one, and what follows."""
    try:
        number, *digest = layout.unpack_from(frame.body)
    except struct.error as exc:
        raise reader.damaged(f"its frame {frame.number} is too short") from exc
    if number >= frame.header.chunks:
        raise reader.damaged(f"its frame {frame.number} is of what lies beyond the volume's end")
    return number, b"".join(digest), frame.body[layout.size :]


def _decompressed(reader: FrameReader, frame: Frame, packed: bytes, limit: int) -> bytes:
    """Return what was compressed; what says of itself that it is longer than `limit` is not looked at."""
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 <= size <= limit:
            raise reader.damaged(f"its frame {frame.number} would be {rough_size(max(0, size))} long")
        return zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as exc:
        raise reader.damaged(f"its frame {frame.number} cannot be decompressed: {exc}") from exc
