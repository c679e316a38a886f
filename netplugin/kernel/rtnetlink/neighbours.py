"""Entries and neighbours, which to the kernel are one kind of thing: RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH.

Source: rtnetlink(7); linux/neighbour.h.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address

from netplugin.kernel.nlattr import attribute, attributes
from netplugin.kernel.rtnetlink.asking import FAMILY, Asking
from netplugin.machine import Address

AF_BRIDGE = 7
NTF_SELF, NTF_MASTER, NTF_STICKY = 0x02, 0x04, 0x40
NUD_STALE, NUD_NOARP, NUD_PERMANENT = 0x04, 0x40, 0x80
CREATE, REPLACE, APPEND = 0x400, 0x100, 0x800

_NEWNEIGH, _DELNEIGH, _GETNEIGH = 28, 29, 30
_NDA_DST, _NDA_LLADDR, _NDA_MASTER = 1, 2, 9
_NDMSG = struct.Struct("=BxxxiHBB")


@dataclass(frozen=True)
class TableEntry:
    """One line of the tables. family: AF_BRIDGE for an FDB's. index: of its link. in_bridge: the bridge has it."""

    family: int
    index: int
    mac: str
    where: Address | None = None
    state: int = 0
    flags: int = 0
    in_bridge: bool = False


class NeighbourTable:
    """The tables of this network namespace."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def add(self, entry: TableEntry, flags: int, operation: str, subject: str) -> None:
        """The entry is in the table; flags: CREATE with REPLACE or APPEND. Raises: KernelError."""
        self._asking.change(_NEWNEIGH, flags, _body(entry), operation, subject)

    def correct(self, entry: TableEntry, operation: str, subject: str) -> None:
        """The entry is so, if there is one of that address. Raises: KernelError."""
        self._asking.change(_NEWNEIGH, REPLACE, _body(entry), operation, subject, (errno.ENOENT,))

    def delete(self, entry: TableEntry, operation: str, subject: str, ignore: Collection[int]) -> bool:
        """The entry is not in the table; return whether it was. Raises: KernelError: its errno is not in `ignore`."""
        return self._asking.change(_DELNEIGH, 0, _body(entry), operation, subject, ignore)

    def known(self, index: int, where: Address, operation: str, subject: str) -> TableEntry | None:
        """Return what this host knows of an address on a link, None if nothing. Raises: KernelError."""
        body = _body(TableEntry(FAMILY[where.version], index, "", where))
        found = self._asking.one(_GETNEIGH, body, operation, subject, (errno.ENOENT, errno.ENODEV))
        return None if found is None else _entry(found)

    def dump(self, family: int, operation: str) -> list[TableEntry]:
        """Return all entries of a family, on all links. Raises: KernelError."""
        return self._asking.all(_GETNEIGH, _NDMSG.pack(family, 0, 0, 0, 0), _entry, operation, "the links")


def _body(entry: TableEntry) -> bytes:
    body = _NDMSG.pack(entry.family, entry.index, entry.state, entry.flags, 0)
    body += attribute(_NDA_LLADDR, bytes.fromhex(entry.mac.replace(":", ""))) if entry.mac else b""
    return body + (attribute(_NDA_DST, entry.where.packed) if entry.where is not None else b"")


def _entry(body: bytes) -> TableEntry:
    family, index, state, flags, _ = _NDMSG.unpack_from(body)
    parts = attributes(body[_NDMSG.size :])
    where, mac = parts.get(_NDA_DST, b""), parts.get(_NDA_LLADDR, b"")
    address = ip_address(where) if len(where) in (4, 16) else None
    return TableEntry(family, index, mac.hex(":") if mac else "", address, state, flags, _NDA_MASTER in parts)
