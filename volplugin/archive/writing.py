"""How an archive is written from an image."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import msgspec
import zstandard

from volplugin.archive import contents
from volplugin.archive.contents import CHUNK_BYTES, Digests, End, Header
from volplugin.archive.frames import DATA, ZEROS, FrameWriter
from volplugin.archive.progress import Bar


class Source(Protocol):
    """An image that does not change."""

    def chunks(self, chunk_bytes: int, without: Collection[int] = ()) -> Iterator[tuple[int, bytes]]:
        """Yield the number and the content of each chunk that is not zeros, in order."""


@dataclass(frozen=True)
class Known:
    """The chunks that who reads an archive will have already, and those of which it is known that they are still so."""

    digests: Digests
    same: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Written:
    """The digest of all that is in the image, and how many bytes of it had to be read."""

    content: str
    read_bytes: int


def write_archive(source: Source, header: Header, writer: FrameWriter, known: Known, bar: Bar) -> Written:
    """The archive is written to its end."""
    compressor = zstandard.ZstdCompressor()
    digests = {number: digest for number, digest in known.digests.items() if number in known.same}
    read_bytes = 0
    bar.expect(header.data_bytes)
    writer.start(header)
    for number, content in source.chunks(CHUNK_BYTES, known.same):
        digests[number] = digest = sha256(content).digest()
        read_bytes += len(content)
        if known.digests.get(number) != digest:
            writer.write(DATA, contents.DATA.pack(number, digest) + compressor.compress(content))
        bar.advance(len(content))
    for number in sorted(known.digests.keys() - digests.keys()):
        if number < header.chunks:
            writer.write(ZEROS, contents.ZEROS.pack(number))
    end = End(writer.number, digests)
    writer.finish(compressor.compress(msgspec.msgpack.encode(end)))
    return Written(contents.content_digest(header.size, digests), read_bytes)
