"""Entries and neighbours, which to the kernel are one kind of thing: RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH.

In plain messages: pyroute2 makes an event loop for each request, and there are four for each endpoint of others.
Source: rtnetlink(7); linux/neighbour.h.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from netplugin.kernel.nlattr import Message, attribute, attributes, message, messages
from pluginkit.errors import KernelError

AF_BRIDGE = 7
NTF_SELF, NTF_MASTER, NTF_STICKY = 0x02, 0x04, 0x40
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
CREATE, REPLACE, APPEND = 0x400, 0x100, 0x800

_NEWNEIGH, _DELNEIGH, _GETNEIGH = 28, 29, 30
_REQUEST, _ACK, _INTERRUPTED, _DUMP = 0x1, 0x4, 0x10, 0x300
_ERROR, _DONE = 2, 3
_NDA_DST, _NDA_LLADDR, _NDA_MASTER = 1, 2, 9
_NDMSG = struct.Struct("=BxxxiHBB")
_BYTES = 256 * 1024
_DUMP_TRIES = 10


@dataclass(frozen=True)
class TableEntry:
    """One line of the tables. family: AF_BRIDGE for an FDB's. index: of its link. in_bridge: the bridge has it."""

    family: int
    index: int
    mac: str
    where: IPv4Address | IPv6Address | None = None
    state: int = 0
    flags: int = 0
    in_bridge: bool = False


class NeighbourTable:
    """The tables of this network namespace, by one socket that is opened when first needed. Threads take turns."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._socket: socket.socket | None = None
        self._sequence = 0

    def close(self) -> None:
        """The socket is closed; the next request opens another."""
        with self._turn:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def add(self, entry: TableEntry, flags: int, operation: str, subject: str) -> None:
        """The entry is in the table; flags: CREATE with REPLACE or APPEND. Raises: KernelError."""
        self._change(_NEWNEIGH, flags, entry, operation, subject, ())

    def delete(self, entry: TableEntry, operation: str, subject: str, ignore: Collection[int]) -> bool:
        """The entry is not in the table; return whether it was. Raises: KernelError: its errno is not in `ignore`."""
        return self._change(_DELNEIGH, 0, entry, operation, subject, ignore)

    def dump(self, family: int, operation: str) -> list[TableEntry]:
        """Return all entries of a family, on all links. Raises: KernelError."""
        for _ in range(_DUMP_TRIES):
            with self._asking(_GETNEIGH, _DUMP, _NDMSG.pack(family, 0, 0, 0, 0)) as answers:
                found = [answer for answer in answers if not _refusal(answer, operation, "the links", ())]
            if not any(answer.flags & _INTERRUPTED for answer in found):
                return [_entry(answer.body) for answer in found]
        raise KernelError(operation, "the links: they change all the time", 4)

    def _change(
        self, kind: int, flags: int, entry: TableEntry, operation: str, subject: str, ignore: Collection[int]
    ) -> bool:
        """Return whether the kernel did it."""
        body = _NDMSG.pack(entry.family, entry.index, entry.state, entry.flags, 0)
        body += attribute(_NDA_LLADDR, bytes.fromhex(entry.mac.replace(":", ""))) if entry.mac else b""
        body += attribute(_NDA_DST, entry.where.packed) if entry.where is not None else b""
        with self._asking(kind, flags | _ACK, body) as answers:
            refusals = [_refusal(answer, operation, subject, ignore) for answer in answers]
        return not any(refusals)

    @contextmanager
    def _asking(self, kind: int, flags: int, body: bytes) -> Iterator[Iterator[Message]]:
        """Inside the block the socket is this thread's, and the answers come."""
        with self._turn:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._sequence = self._sequence % 0xFFFFFFFF + 1
            self._socket.sendto(message(kind, flags | _REQUEST, self._sequence, body), (0, 0))
            yield self._answers(self._socket)

    def _answers(self, asked: socket.socket) -> Iterator[Message]:
        """Yield the answers to the last request, an acknowledgement and an error too."""
        while True:
            for answer in messages(asked.recv(_BYTES)):
                # Of one that somebody did not read to its end there may be more.
                if answer.sequence == self._sequence:
                    if answer.kind != _DONE:
                        yield answer
                    if answer.kind in (_DONE, _ERROR):
                        return


def _refusal(answer: Message, operation: str, subject: str, ignore: Collection[int]) -> int:
    """Return the errno in an answer, 0 if there is none. Raises: KernelError: it is not in `ignore`."""
    if answer.kind != _ERROR:
        return 0
    [code] = struct.unpack_from("=i", answer.body)
    if code and -code not in ignore:
        raise KernelError(operation, subject, -code)
    return -int(code)


def index_of(name: str) -> int:
    """Return the index of a link of this network namespace, 0 if there is none of that name."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def _entry(body: bytes) -> TableEntry:
    family, index, state, flags, _ = _NDMSG.unpack_from(body)
    parts = attributes(body[_NDMSG.size :])
    where, mac = parts.get(_NDA_DST, b""), parts.get(_NDA_LLADDR, b"")
    address = ip_address(where) if len(where) in (4, 16) else None
    return TableEntry(family, index, mac.hex(":") if mac else "", address, state, flags, _NDA_MASTER in parts)
