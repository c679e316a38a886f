"""Netlink messages and attributes as bytes. Source: netlink(7), linux/netlink.h."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

NESTED = 0x8000
_TYPE = 0x3FFF
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")


@dataclass(frozen=True)
class Message:
    """One message that was received. port: of whom it answers, or who made the change that it tells of."""

    kind: int
    flags: int
    sequence: int
    port: int
    body: bytes


def padded(value: bytes) -> bytes:
    """Return `value` filled up to whole words of four bytes."""
    return value + bytes(-len(value) % 4)


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + padded(value)


def string(kind: int, value: str) -> bytes:
    """Return one attribute that holds a text, with a zero at its end."""
    return attribute(kind, value.encode() + b"\0")


def each_attribute(text: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of the attributes in `text`."""
    offset, last = 0, len(text) - _ATTRIBUTE.size
    while offset <= last:
        length, kind = _ATTRIBUTE.unpack_from(text, offset)
        yield kind & _TYPE, text[offset + 4 : offset + length]
        offset += (length + 3) & ~3 or 4


def attributes(text: bytes) -> dict[int, bytes]:
    """Return the attributes in `text` by type."""
    return dict(each_attribute(text))


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """Return one message to send."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def messages(text: bytes) -> Iterator[Message]:
    """Yield the messages of one datagram."""
    offset = 0
    while offset + _HEADER.size <= len(text):
        length, kind, flags, sequence, port = _HEADER.unpack_from(text, offset)
        yield Message(kind, flags, sequence, port, text[offset + _HEADER.size : offset + length])
        offset += max(_HEADER.size, (length + 3) & ~3)
