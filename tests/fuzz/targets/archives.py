"""Archives of volumes: any bytes, and frames of any kind and content whose checksums are right."""

from __future__ import annotations

import io
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import zstandard

from pluginkit.errors import BadRequest, Exhausted
from volplugin.archive import contents
from volplugin.archive.contents import CHUNK_BYTES, End, Header, Reference
from volplugin.archive.frames import DATA, HEADER, MAGIC, ZEROS, Damaged, FrameReader, FrameWriter
from volplugin.archive.reading import Restored, read_archive, read_end, resume

SIZE = CHUNK_BYTES + 4096
HEAD = Header("a", "v", datetime(2026, 1, 1, tzinfo=UTC), {"size": str(SIZE)}, SIZE, 10, "0" * 64)
KINDS = (DATA, ZEROS, HEADER, b"X")
_CHUNK = bytes(4096)
_FRAME = contents.DATA.pack(1, contents.sha256(_CHUNK).digest()) + zstandard.compress(_CHUNK)
_END = zstandard.compress(msgspec.msgpack.encode(End(2, {1: contents.sha256(_CHUNK).digest()})))
# Made frames: each body behind its kind and length; the last one is the end.
SEEDS = (
    MAGIC,
    b"+" + bytes((0, len(_FRAME))) + _FRAME + bytes((0, len(_END))) + _END,
    b"+" + bytes((1, 8)) + contents.ZEROS.pack(1) + bytes((0, len(_END))) + _END,
    b"+" + bytes((2, 0)) + bytes((0, 3)) + b"abc",
)


class _Image:
    """Where the volume would be; nothing may be put beyond its end."""

    def __init__(self) -> None:
        self.size = 0

    def check_room(self, needed: int) -> None:
        if needed > 1 << 40:
            raise Exhausted("cannot restore: no room")

    def resize(self, size: int) -> None:
        self.size = size

    def write(self, offset: int, content: bytes) -> None:
        assert 0 <= offset <= offset + len(content) <= self.size

    def clear(self, offset: int, length: int) -> None:
        assert 0 <= offset <= offset + length <= self.size


class _Bar:
    def expect(self, size: int) -> None:
        assert size >= 0

    def advance(self, size: int) -> None:
        assert size >= 0


def one_input(data: bytes) -> None:
    archive = _made(data[1:]) if data[:1] == b"+" else data
    refused = suppress(Damaged, BadRequest, Exhausted)
    with refused:
        read_archive(FrameReader(io.BytesIO(archive), "x", None), Restored(_Image()), _accept, _Bar())
        assert read_end(FrameReader(io.BytesIO(archive), "x", None)).reference is not None, "whole, but without an end"
    with refused:
        resume(FrameReader(io.BytesIO(archive), "x", None), Restored(_Image()), _accept, _Bar())
    with refused:
        base = Restored(_Image(), reference=Reference("a", "b"))
        read_archive(FrameReader(io.BytesIO(archive), "x", bytes(32)), base, _accept, _Bar())
    with suppress(Damaged, BadRequest, Exhausted, OSError):
        # Shorter than its footer: nobody can go there, and callers say so.
        read_end(FrameReader(io.BytesIO(archive), "x", None))


def _accept(header: Header) -> None:
    assert header.chunks > 0


def _made(data: bytes) -> bytes:
    out = io.BytesIO()
    writer = FrameWriter(out, None)
    writer.start(HEAD)
    while data:
        kind, length = data[0], data[1] if len(data) > 1 else 0
        body, data = data[2 : 2 + length], data[2 + length :]
        if not data:
            writer.finish(body)
        elif KINDS[kind % len(KINDS)] == HEADER:
            _start(writer, body)
        else:
            writer.write(KINDS[kind % len(KINDS)], body)
    return out.getvalue()


def _start(writer: FrameWriter, body: bytes) -> None:
    """Another header, with a field or two as the bytes say."""
    size = int.from_bytes(body[:4], "big") + 1
    fields = {"size": size, "options": {"size": str(size)}} if body else {}
    head = msgspec.structs.replace(HEAD, frames=writer.number + (len(body) > 4), **fields)
    writer.start(head)
