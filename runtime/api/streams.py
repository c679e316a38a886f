"""Answers that go on: a conversation over the connection itself, in a thread of its own.

gunicorn's threads are few, and a `docker attach` may last for months. So the connection is duplicated, gunicorn is told
that its client has gone, and the thread speaks HTTP by itself. Source: Engine API, "Attach to a container".
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from typing import Any

from flask import Response, request

log = logging.getLogger(__name__)

Talk = Callable[[socket.socket], None]
RAW, MULTIPLEXED = "application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream"


class Conversation(Response):
    """An answer that `talk` gives, whatever it takes; `head` is sent before."""

    def __init__(self, head: bytes, talk: Talk) -> None:
        super().__init__()
        self._head, self._talk = head, talk

    def __call__(self, environ: Any, start_response: Any) -> Any:  # noqa: ARG002 - WSGI's signature
        """The thread has taken over.

        Raises: BrokenPipeError, by which gunicorn closes its own descriptor and says nothing.
        """
        connection: socket.socket = environ["gunicorn.socket"].dup()
        # gunicorn would shut the connection down; it cannot by a descriptor that is closed.
        environ["gunicorn.socket"].close()
        threading.Thread(target=self._run, args=(connection,), daemon=True).start()
        raise BrokenPipeError(errno.EPIPE, "the connection has been taken over")

    def _run(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(self._head)
                self._talk(connection)
            except OSError:
                pass  # the client has gone, which it may
            except Exception:
                log.exception("in a stream")
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def upgraded(talk: Talk, content_type: str) -> Response:
    """Return an answer after which the connection carries raw bytes both ways."""
    if "tcp" in request.headers.get("Upgrade", ""):
        head = f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    else:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n"
    return Conversation(head.encode(), talk)


def chunked(pieces: Iterable[bytes | None], content_type: str = "application/json", status: str = "200 OK") -> Response:
    """Return an answer that sends each piece when there is one; at None it looks whether anybody listens still."""

    def talk(connection: socket.socket) -> None:
        for piece in pieces:
            if has_hung_up(connection):
                return
            if piece:
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")

    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    return Conversation(head.encode(), talk)


def written(write_all: Callable[[Callable[[bytes], None]], None], content_type: str, header: str) -> Response:
    """Return an answer that `write_all` writes, by calling what it is given; `header` is one more header line."""

    def talk(connection: socket.socket) -> None:
        write_all(lambda content: connection.sendall(b"%x\r\n%s\r\n" % (len(content), content)) if content else None)
        connection.sendall(b"0\r\n\r\n")

    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{header}\r\nTransfer-Encoding: chunked\r\n"
        "Connection: close\r\n\r\n"
    )
    return Conversation(head.encode(), talk)


def json_lines(objects: Iterable[dict[str, Any] | None]) -> Iterable[bytes | None]:
    """Yield each object as a line."""
    for each in objects:
        yield None if each is None else json.dumps(each).encode() + b"\r\n"


def frame(stream: int, content: bytes) -> bytes:
    """Return the content as a multiplexed stream carries it; `stream` is 1 for stdout, 2 for stderr."""
    return struct.pack(">BxxxL", stream, len(content)) + content


def has_hung_up(connection: socket.socket) -> bool:
    """Whether the other side has closed; one that only has nothing more to say has not."""
    if connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))
