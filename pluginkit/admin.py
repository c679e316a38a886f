"""The administrator's way into a running plugin: a Unix socket in its state directory, for root alone.

What changes records must happen in the one process that has the locks and the store, so commands are clients. Not on
the plugin's socket, which is the engine's, and which others may be allowed to open. Where the state directory is, there
is the socket: nothing has to be configured, and that of a managed plugin is reached from the host.
"""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pluginkit import wire
from pluginkit.errors import BadRequest, KernelError, PluginError, Unavailable

T = TypeVar("T")

SOCKET = "admin.sock"
# In every path; a change that an older client or plugin would misread has another one.
VERSION = "v1"


def listen(state_dir: Path, app: Callable[..., Any]) -> None:
    """The WSGI app answers on the socket until this process ends, each request in a thread of its own.

    The caller has the state directory to itself, so a socket that is there is a dead one's.

    Raises: KernelError: the socket cannot be made.
    """
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Nothing is said: the app logs its requests."""

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        (state_dir / SOCKET).unlink(missing_ok=True)
        with _short(state_dir) as path:
            listener.bind(path)
        (state_dir / SOCKET).chmod(0o600)
        listener.listen()
    except OSError as exc:
        raise KernelError("listen on", str(state_dir / SOCKET), exc.errno or 0) from exc
    server = make_server("unix://", 0, app, threaded=True, request_handler=Silent, fd=listener.fileno())
    # The server has a copy of the descriptor.
    listener.close()
    threading.Thread(target=server.serve_forever, daemon=True).start()


def call(name: str, state_dir: Path, method: str, request: Any, wanted: type[T]) -> T:
    """Return what the plugin `name` that serves from the state directory answers; it takes as long as it takes.

    Raises: Unavailable: no plugin answers there; BadRequest, PluginError: what it says went wrong.
    """
    with _asked(name, state_dir, method, request) as answer:
        return wire.decode(answer.read(), wanted)


def lines(name: str, state_dir: Path, method: str, request: Any, wanted: type[T]) -> Iterator[T]:
    """Yield the lines of an answer that comes bit by bit, until the plugin ends it. Raises: as `call`."""
    with _asked(name, state_dir, method, request) as answer:
        for line in iter(answer.readline, b""):
            yield wire.decode(line, wanted)


@contextmanager
def _asked(name: str, state_dir: Path, method: str, request: Any) -> Iterator[http.client.HTTPResponse]:
    """Inside the block there is a good answer to be read. Raises: as `call`."""
    connection = _Connection(state_dir)
    try:
        connection.request("POST", f"/{VERSION}/{method}", wire.encode(request))
        answer = connection.getresponse()
        if answer.status == 200:
            yield answer
            return
        said = wire.decode(answer.read(), dict[str, str])["Err"]
    except (OSError, http.client.HTTPException) as exc:
        hint = f"is {name} running, are you root, and is --state-dir right?"
        raise Unavailable(f"cannot reach {name} at {state_dir / SOCKET}: {exc}; {hint}") from exc
    finally:
        connection.close()
    if answer.status == 404:
        raise Unavailable(f"cannot ask {name} for {method}: it is of another version than this command; restart it")
    raise (BadRequest if answer.status == 400 else PluginError)(said)


class _Connection(http.client.HTTPConnection):
    def __init__(self, state_dir: Path) -> None:
        super().__init__("admin")
        self._state_dir = state_dir

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with _short(self._state_dir) as path:
            self.sock.connect(path)


@contextmanager
def _short(state_dir: Path) -> Iterator[str]:
    """Inside the block this is the socket's path, however long that of the directory is: an address takes 108 bytes."""
    directory = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{SOCKET}"
    finally:
        os.close(directory)
