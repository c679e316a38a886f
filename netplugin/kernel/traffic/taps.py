"""Frames of links, as they pass. Source: packet(7), socket(7)."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from pluginkit.errors import KernelError

_ALL = 0x0003
# Reserved (RFC 1701): no frame has it.
_NONE = 0xFFFF
_TIMESTAMP_NS = getattr(socket, "SO_TIMESTAMPNS", 35)
_LARGEST = 256 * 1024
_BUFFER_BYTES = 8 << 20
_RCVBUFFORCE = 33
_SOL_PACKET, _PACKET_STATISTICS = 263, 6


class Frame(NamedTuple):
    """A frame of the link at `place` in the list, seen at a time since 1970. received: by the link, not sent on it."""

    place: int
    at_ns: int
    data: bytes
    received: bool


class Taps:
    """Listens to links of this network namespace, from now on."""

    def __init__(self, links: Sequence[str]) -> None:
        """Raises: KernelError: there is no such link, or we may not."""
        self._links = links
        self._places: dict[int, int] = {}
        self._poll = select.poll()
        self._sockets: dict[int, socket.socket] = {}
        with ExitStack() as opening:
            self._end = os.eventfd(0)
            opening.callback(os.close, self._end)
            self._poll.register(self._end, select.POLLIN)
            for place, link in enumerate(links):
                tap = opening.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
                try:
                    tap.setsockopt(socket.SOL_SOCKET, _TIMESTAMP_NS, 1)
                    tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
                    tap.bind((link, _ALL))
                except OSError as exc:
                    raise KernelError("listen to", link, exc.errno or 0) from exc
                self._places[tap.fileno()] = place
                self._sockets[tap.fileno()] = tap
                self._poll.register(tap, select.POLLIN)
            self._open = opening.pop_all()

    def close(self) -> None:
        """Nothing is listened to any more."""
        self._open.close()

    def end(self) -> None:
        """`frames` yields no more. May be called by a handler of a signal."""
        os.eventfd_write(self._end, 1)

    def frames(self, timeout_s: float | None) -> Iterator[Frame]:
        """Yield frames as they come, those of one link in their order, until `end` or the time is over; None: for ever.

        A link that goes away ends only what comes from it.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._sockets:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            for descriptor, _ in self._poll.poll(None if left is None else left * 1000):
                if descriptor == self._end:
                    return
                try:
                    yield self._receive(descriptor)
                except OSError:
                    self._forget(descriptor)

    def waiting(self) -> Iterator[Frame]:
        """Yield what has come until now, as far as it was not yielded yet; nothing comes any more.

        Frames that come meanwhile are kept out by the sockets' protocol, not told by their time: the kernel begins to
        stamp a moment after it was asked to, and what came before has the time at which it is read.
        """
        with suppress(KeyError):
            self._poll.unregister(self._end)
        for descriptor, tap in [*self._sockets.items()]:
            # A link that is gone sends nothing.
            with suppress(OSError):
                tap.bind((self._links[self._places[descriptor]], _NONE))
        while ready := self._poll.poll(0):
            for descriptor, _ in ready:
                try:
                    yield self._receive(descriptor)
                except OSError:
                    self._forget(descriptor)

    def _forget(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self._sockets[descriptor]

    def _receive(self, descriptor: int) -> Frame:
        sight = _received(self._sockets[descriptor])
        return Frame(self._places[descriptor], sight.at_ns, sight.data, sight.received)


class Sight(NamedTuple):
    """A frame without its link's header, seen on a link at a time since 1970. received: by the link, not sent on it."""

    link: str
    at_ns: int
    data: bytes
    received: bool


class Everywhere:
    """Listens to all links of this network namespace, from now on, by one socket."""

    def __init__(self) -> None:
        """Raises: KernelError: we may not."""
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
            self._socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMP_NS, 1)
            # All that the host sends and receives meanwhile comes by here.
            self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 8 * _BUFFER_BYTES)
        except OSError as exc:
            raise KernelError("listen to", "all links", exc.errno or 0) from exc

    def close(self) -> None:
        """Nothing is listened to any more."""
        self._socket.close()

    def frames(self, timeout_s: float) -> Iterator[Sight]:
        """Yield frames as they come until the time is over."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                yield _received(self._socket)
            except TimeoutError:
                return
            except OSError as exc:
                # A link went down; the others are listened to.
                if exc.errno != errno.ENETDOWN:
                    raise KernelError("listen to", "all links", exc.errno or 0) from exc

    def missed(self) -> int:
        """Return how many frames found no room since the last call."""
        _, dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        return int(dropped)


def _received(tap: socket.socket) -> Sight:
    data, ancillary, _, address = tap.recvmsg(_LARGEST, 64)
    stamps = [struct.unpack("ll", value[:16]) for _, kind, value in ancillary if kind == _TIMESTAMP_NS]
    seconds, nanoseconds = stamps[0] if stamps else (0, time.time_ns())
    return Sight(address[0], seconds * 10**9 + nanoseconds, data, address[2] != socket.PACKET_OUTGOING)
