"""Which sockets have a port open, asked of the kernel by a filter: nobody else's are looked at.

Source: sock_diag(7), linux/inet_diag.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from netplugin.kernel import nlattr
from netplugin.records import Protocol

_NETLINK_SOCK_DIAG = 4
_BY_FAMILY, _DUMP, _DONE, _ERROR = 20, 0x301, 3, 2  # NLM_F_REQUEST | NLM_F_DUMP
_NUMBER: dict[Protocol, int] = {
    "tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP,
}  # fmt: skip
_CLOSED, _LISTENING = 1 << 7, 1 << 10
# Connections that only use a port, as their ephemeral end, do not count; a datagram socket without a peer is "closed".
_OPEN: dict[Protocol, int] = {"tcp": _LISTENING, "udp": _CLOSED, "sctp": _LISTENING}
_REQUEST = struct.Struct("=BBxxI48x")
_FILTER = 1
_INODE = struct.Struct("=68xI")
_MOST = 1 << 16


def open_inodes(protocol: Protocol, first: int, last: int) -> set[int]:
    """Return the inodes of the sockets of this network namespace that have one of the ports open for others.

    None are known of a protocol that the kernel does not have, or cannot be asked about.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as kernel:
            return {
                inode for family in (socket.AF_INET, socket.AF_INET6)
                for inode in _ask(kernel, family, protocol, _between(first, last))
            }  # fmt: skip
    except OSError:
        return set()


def _between(first: int, last: int) -> bytes:
    """Return the program that lets a local port from first to last pass.

    Every comparison (2: at least, 3: at most) is two words, the second of which has the port. It says how many bytes to
    go on if so, and how many if not: four beyond the end is no.
    """
    return struct.pack("=BBHHHBBHHH", 2, 8, 20, 0, first, 3, 8, 12, 0, last)


def _ask(kernel: socket.socket, family: int, protocol: Protocol, program: bytes) -> Iterator[int]:
    body = _REQUEST.pack(family, _NUMBER[protocol], _OPEN[protocol]) + nlattr.attribute(_FILTER, program)
    kernel.send(nlattr.message(_BY_FAMILY, _DUMP, 0, body))
    while True:
        for message in nlattr.messages(kernel.recv(_MOST)):
            if message.kind == _DONE:
                return
            if message.kind == _ERROR:
                raise OSError(-struct.unpack_from("=i", message.body)[0], "sock_diag")
            yield _INODE.unpack_from(message.body)[0]
