"""One rtnetlink socket, and a question with its answers. Source: netlink(7), rtnetlink(7)."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import TypeVar

from netplugin.kernel.nlattr import Message, message, messages
from pluginkit.errors import KernelError

T = TypeVar("T")

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}

_REQUEST, _ACK, _INTERRUPTED, _DUMP = 0x1, 0x4, 0x10, 0x300
_ERROR, _DONE = 2, 3
_SOL_NETLINK, _GET_STRICT_CHK = 270, 12
# The kernel fills no datagram of a dump beyond this.
_BYTES = 32 * 1024
_DUMP_TRIES = 10
_EINTR = 4


class Asking:
    """A socket that is opened when first needed. Threads take turns."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._socket: socket.socket | None = None
        self._sequence = 0

    def close(self) -> None:
        """The socket is closed; the next question opens another."""
        with self._turn:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def change(
        self, kind: int, flags: int, body: bytes, operation: str, subject: str, ignore: Collection[int] = ()
    ) -> bool:
        """Return whether the kernel did it; if not, it was for an errno in `ignore`. Raises: KernelError."""
        with self._turn:
            answers = list(self._ask(kind, flags | _ACK, body, operation, subject))
        return not any(_refusal(answer, operation, subject, ignore) for answer in answers)

    def one(self, kind: int, body: bytes, operation: str, subject: str, ignore: Collection[int]) -> bytes | None:
        """Return the one answer, None if the kernel refuses with an errno in `ignore`. Raises: KernelError."""
        with self._turn:
            answer = next(self._ask(kind, 0, body, operation, subject))
        return None if _refusal(answer, operation, subject, ignore) else answer.body

    def all(self, kind: int, body: bytes, read: Callable[[bytes], T], operation: str, subject: str) -> list[T]:
        """Return all that there is, as `read` makes it of each answer. Raises: KernelError."""
        for _ in range(_DUMP_TRIES):
            with self._turn:
                found = list(self._ask(kind, _DUMP, body, operation, subject))
            for answer in found:
                _refusal(answer, operation, subject, ())
            if not any(answer.flags & _INTERRUPTED for answer in found):
                return [read(answer.body) for answer in found]
        raise KernelError(operation, f"{subject}: they change all the time", _EINTR)

    def _ask(self, kind: int, flags: int, body: bytes, operation: str, subject: str) -> Iterator[Message]:
        """Yield the answers, an acknowledgement and an error too. Raises: KernelError: there is no socket to be had."""
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
                with suppress(OSError):  # a kernel before 4.20 tells of more than it was asked for
                    self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
            self._sequence = self._sequence % 0xFFFFFFFF + 1
            self._socket.sendto(message(kind, flags | _REQUEST, self._sequence, body), (0, 0))
            yield from self._answers(self._socket)
        except OSError as exc:
            raise KernelError(operation, subject, exc.errno or 0) from exc

    def _answers(self, asked: socket.socket) -> Iterator[Message]:
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
