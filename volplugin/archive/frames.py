"""The frames of an archive. None can be altered, swapped, left out or added without the reader's noticing.

An archive is MAGIC, then frames, then a footer. A frame is its kind, its number, the length of its body, and the body,
guarded. The first one is a header; an archive that was continued has another where it was interrupted. Every other
frame is bound to the header before it and to its own number: with a key by AES-GCM, which nobody without the key can
forge; else by a checksum, which tells of accidents. The last frame says how many there are.

The key of a segment, a header and what follows it, is derived from the given one and the header's salt, which no other
segment has. So a frame's number is a nonce that is used once.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import BinaryIO, Protocol

import msgspec

from pluginkit.errors import BadRequest, PluginError
from volplugin.archive.contents import Header

MAGIC = b"pyvol archive 1\n"
HEADER, DATA, ZEROS, END = b"H", b"D", b"Z", b"E"
FOOTER = struct.Struct(">8sQQ")
_FOOTER_MAGIC = b"pyvolend"
_PREFIX = struct.Struct(">cQI")
_TAG_BYTES = 16
_MAX_HEADER_BYTES = 1 << 20
MAX_BODY_BYTES = 1 << 30
CIPHER = "aes-256-gcm"


class Damaged(PluginError):
    """The archive is not what was written, or was not written by a holder of the key."""


@dataclass(frozen=True)
class Frame:
    """A frame whose body is as it was written. header: the one that it is bound to. position: where it begins."""

    kind: bytes
    number: int
    position: int
    body: bytes
    header: Header


class _Guard(Protocol):
    def wrap(self, number: int, bound: bytes, body: bytes) -> bytes:
        """Return what only `unwrap` with the same number and the same `bound` takes."""

    def unwrap(self, number: int, bound: bytes, wrapped: bytes) -> bytes | None:
        """Return the body, or None: it is not what was wrapped."""


class _Checksum:
    def wrap(self, _number: int, bound: bytes, body: bytes) -> bytes:
        return body + blake2b(bound + body, digest_size=_TAG_BYTES).digest()

    def unwrap(self, number: int, bound: bytes, wrapped: bytes) -> bytes | None:
        body = wrapped[:-_TAG_BYTES]
        return body if hmac.compare_digest(self.wrap(number, bound, body), wrapped) else None


class _Cipher:
    def __init__(self, secret: bytes, salt: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        self._gcm = AESGCM(HKDF(SHA256(), 32, salt, MAGIC).derive(secret))

    def wrap(self, number: int, bound: bytes, body: bytes) -> bytes:
        return self._gcm.encrypt(number.to_bytes(12, "big"), body, bound)

    def unwrap(self, number: int, bound: bytes, wrapped: bytes) -> bytes | None:
        from cryptography.exceptions import InvalidTag

        try:
            return self._gcm.decrypt(number.to_bytes(12, "big"), wrapped, bound)
        except InvalidTag:
            return None


class Segment:
    """What the frames after a header are bound to, and guarded by. secret: None if nothing is encrypted."""

    def __init__(self, header: Header, raw: bytes, secret: bytes | None) -> None:
        self.header = header
        self._digest = sha256(raw).digest()
        self._guard: _Guard = _Checksum() if secret is None else _Cipher(secret, bytes.fromhex(header.salt))

    def wrap(self, kind: bytes, number: int, body: bytes) -> bytes:
        """Return the body as it is written."""
        return self._guard.wrap(number, self._bound(kind, number), body)

    def unwrap(self, kind: bytes, number: int, wrapped: bytes) -> bytes | None:
        """Return the body, or None: it is not what was written."""
        return self._guard.unwrap(number, self._bound(kind, number), wrapped)

    def _bound(self, kind: bytes, number: int) -> bytes:
        return self._digest + kind + number.to_bytes(8, "big")


class FrameWriter:
    """Writes an archive from its beginning, or on where an interrupted one ends: after so many frames and bytes."""

    def __init__(self, out: BinaryIO, secret: bytes | None, number: int = 0, position: int = 0) -> None:
        self._out = out
        self._secret = secret
        self._number = number
        self._position = position

    def start(self, header: Header) -> None:
        """What is written from now on is bound to this header."""
        if not self._position:
            self._write(MAGIC)
        self._header_position = self._position
        raw = msgspec.json.encode(header)
        self._segment = Segment(header, raw, self._secret)
        self._frame(HEADER, raw + _sum_of(raw))

    def write(self, kind: bytes, body: bytes) -> None:
        """The frame is written."""
        self._frame(kind, self._segment.wrap(kind, self._number, body))

    def finish(self, body: bytes) -> None:
        """The last frame is written, and where to find it."""
        end = self._position
        self.write(END, body)
        self._write(FOOTER.pack(_FOOTER_MAGIC, self._header_position, end))

    @property
    def number(self) -> int:
        """How many frames there are."""
        return self._number

    def _frame(self, kind: bytes, wrapped: bytes) -> None:
        self._write(_PREFIX.pack(kind, self._number, len(wrapped)) + wrapped)
        self._number += 1

    def _write(self, content: bytes) -> None:
        self._out.write(content)
        self._position += len(content)


class FrameReader:
    """Reads an archive. name: what it is called in errors."""

    def __init__(self, source: BinaryIO, name: str, secret: bytes | None) -> None:
        self._source = source
        self._name = name
        self._secret = secret
        # Where the last whole frame ends, but for the one that says the end: from there it can be continued.
        self.position = 0
        self.number = 0

    def damaged(self, reason: str) -> Damaged:
        """Return the error that says so."""
        return Damaged(f"cannot use the archive {self._name}: {reason}")

    def frames(self) -> Iterator[Frame]:
        """Yield every frame, each as it was written, the header first and the one that says the end last.

        Raises: Damaged; BadRequest: the key is not one for this archive.
        """
        if self._exactly(len(MAGIC)) != MAGIC:
            raise self.damaged("it is none of pyvol's, or of another version")
        self.position = len(MAGIC)
        segment: Segment | None = None
        header_position = self.position
        while True:
            position = self.position
            kind, wrapped = self._frame()
            if kind == HEADER:
                segment, header_position = self._parsed(wrapped, position), position
                yield self._passed(Frame(HEADER, self.number, position, b"", segment.header), wrapped)
                continue
            if segment is None:
                raise self.damaged("it has no header")
            body = segment.unwrap(kind, self.number, wrapped)
            if body is None:
                hint = ", or the key is another one" if self._secret else ""
                raise self.damaged(f"its frame {self.number} is not what was written{hint}")
            if kind == END:
                if self._exactly(FOOTER.size) != FOOTER.pack(_FOOTER_MAGIC, header_position, position):
                    raise self.damaged("its end is not what was written")
                if self._source.read(1):
                    raise self.damaged("something was added to its end")
                yield Frame(kind, self.number, position, body, segment.header)
                return
            yield self._passed(Frame(kind, self.number, position, body, segment.header), wrapped)

    def end(self) -> Frame:
        """Return the last frame. Nothing else of the archive is looked at but the header that it is bound to.

        Raises: Damaged, BadRequest: as `frames`; PluginError: the source is none in which one can go to and fro.
        """
        footer_position = self._source.seek(-FOOTER.size, os.SEEK_END)
        magic, header_position, position = FOOTER.unpack(self._exactly(FOOTER.size))
        if magic != _FOOTER_MAGIC or not header_position < position < footer_position:
            raise self.damaged("its end is not what was written")
        self._source.seek(header_position)
        kind, _, wrapped = self._any_frame()
        segment = self._parsed(wrapped, header_position)
        self._source.seek(position)
        end, number, wrapped = self._any_frame()
        body = segment.unwrap(end, number, wrapped)
        if body is None or (kind, end) != (HEADER, END):
            hint = ", or the key is another one" if self._secret else ""
            raise self.damaged(f"its end is not what was written{hint}")
        return Frame(end, number, position, body, segment.header)

    def _passed(self, frame: Frame, wrapped: bytes) -> Frame:
        self.position = frame.position + _PREFIX.size + len(wrapped)
        self.number = frame.number + 1
        return frame

    def _frame(self) -> tuple[bytes, bytes]:
        kind, number, wrapped = self._any_frame()
        if number != self.number:
            raise self.damaged(f"where frame {self.number} should be is frame {number}")
        return kind, wrapped

    def _any_frame(self) -> tuple[bytes, int, bytes]:
        kind, number, length = _PREFIX.unpack(self._exactly(_PREFIX.size))
        if not _TAG_BYTES <= length <= MAX_BODY_BYTES:
            raise self.damaged(f"where frame {self.number} should be is something else")
        return kind, number, self._exactly(length)

    def _parsed(self, wrapped: bytes, position: int) -> Segment:
        raw = wrapped[:-_TAG_BYTES]
        if len(wrapped) > _MAX_HEADER_BYTES or _sum_of(raw) != wrapped[-_TAG_BYTES:]:
            raise self.damaged(f"its header at byte {position} is not what was written")
        try:
            header = msgspec.json.decode(raw, type=Header)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise self.damaged(f"its header is of another version: {exc}") from exc
        if header.cipher not in ("", CIPHER):
            raise self.damaged(f"it is encrypted in a way that is not known here: {header.cipher[:40]!r}")
        if header.cipher and self._secret is None:
            raise BadRequest(f"cannot use the archive {self._name}: it is encrypted; give --key-file")
        if self._secret is not None and not header.cipher:
            # Whoever gives a key relies on it that only a holder of the key can have written this.
            raise BadRequest(f"cannot use the archive {self._name}: it is not encrypted; leave out --key-file")
        return Segment(header, raw, self._secret)

    def _exactly(self, wanted: int) -> bytes:
        parts = []
        while wanted:
            part = self._source.read(wanted)
            if not part:
                raise self.damaged("it ends too early: it is not whole")
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)


def _sum_of(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=_TAG_BYTES).digest()
