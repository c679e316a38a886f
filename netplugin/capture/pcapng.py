"""The pcapng format, as much of it as a capture with names needs. Pure. Source: draft-ietf-opsawg-pcapng.

A file is a section header, an interface description for each link, a name resolution block, and a packet each frame.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address

_SECTION, _INTERFACE, _NAMES, _PACKET = 0x0A0D0D0A, 1, 4, 6
_BYTE_ORDER, _UNKNOWN_LENGTH, _ETHERNET = 0x1A2B3C4D, 0xFFFF_FFFF_FFFF_FFFF, 1
_USER_APPLICATION, _INTERFACE_NAME, _RESOLUTION, _FLAGS = 4, 2, 9, 2
_NANOSECONDS = 9
_INBOUND, _OUTBOUND = 1, 2


def section(program: str) -> bytes:
    """Return the header with which a file begins."""
    fixed = struct.pack("<IHHQ", _BYTE_ORDER, 1, 0, _UNKNOWN_LENGTH)
    return _block(_SECTION, fixed + _options({_USER_APPLICATION: program.encode()}))


def interface(name: str) -> bytes:
    """Return the description of a link whose packets follow; the first one has number 0."""
    options = {_INTERFACE_NAME: name.encode(), _RESOLUTION: bytes([_NANOSECONDS])}
    return _block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, 0) + _options(options))


def names(addresses: Mapping[IPv4Address | IPv6Address, str]) -> bytes:
    """Return what the addresses are called."""
    records = b"".join(
        _padded(1 if address.version == 4 else 2, address.packed + name.encode() + b"\0")
        for address, name in addresses.items()
    )
    return _block(_NAMES, records + _padded(0, b""))


def packet(number: int, at_ns: int, frame: bytes, *, inbound: bool) -> bytes:
    """Return a frame of link `number`, whole, seen at a time since 1970."""
    fixed = struct.pack("<IIIII", number, at_ns >> 32, at_ns & 0xFFFF_FFFF, len(frame), len(frame))
    flags = struct.pack("<I", _INBOUND if inbound else _OUTBOUND)
    return _block(_PACKET, fixed + _filled(frame) + _options({_FLAGS: flags}))


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _options(options: Mapping[int, bytes]) -> bytes:
    return b"".join(_padded(code, value) for code, value in options.items()) + _padded(0, b"")


def _padded(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _filled(value)


def _filled(value: bytes) -> bytes:
    return value + b"\0" * (-len(value) % 4)
