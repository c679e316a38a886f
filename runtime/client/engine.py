"""The Engine API on a Unix socket, from the client's side."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import IO, Any
from urllib.parse import urlencode

DEFAULT = "unix:///run/pyrun/pyrun.sock"
_API = "/v1.41"
# A plugin that is down is waited for by the engine, and a container that is to stop has its ten seconds.
_TIMEOUT_S = 600.0


class EngineError(Exception):
    """The engine refused, in its own words, or does not answer (status 0)."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Engine:
    """The engine behind a socket. Each request has a connection of its own, so that threads may share it."""

    def __init__(self, host: str) -> None:
        """host: as DOCKER_HOST has it.

        Raises: EngineError: it is no Unix socket.
        """
        kind, _, self._path = host.partition("://")
        if kind != "unix":
            raise EngineError(f"cannot reach the engine at {host}: only unix://PATH is understood; set DOCKER_HOST so")

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Return what the engine answers, None where that is nothing.

        Raises: EngineError.
        """
        content = self.open(method, path, body, **query).read()
        return json.loads(content) if content else None

    def lines(self, method: str, path: str, body: IO[bytes], **query: Any) -> Iterator[dict[str, Any]]:
        """Yield the objects of an answer that has one a line; the body is sent as it comes.

        Raises: EngineError, also when it is told late.
        """
        for line in self.open(method, path, body, **query):
            told = json.loads(line)
            if "error" in told:
                raise EngineError(str(told["error"]), 500)
            yield told

    def open(self, method: str, path: str, body: Any = None, **query: Any) -> http.client.HTTPResponse:
        """Return the answer once it has begun; the query's values that are None or False are left out.

        Raises: EngineError.
        """
        connection = http.client.HTTPConnection("pyrun")
        connection.sock = self._connect()
        headers = {"Connection": "close"}
        if body is not None and not hasattr(body, "read"):
            headers["Content-Type"] = "application/json"
            body = json.dumps(body).encode()
        try:
            connection.request(method, _target(path, query), body, headers)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as exc:
            raise EngineError(f"cannot ask the engine at {self._path}: {exc!r}; see its log") from exc
        if answer.status >= 400:
            raise _refusal(answer.status, answer.read())
        return answer

    def converse(self, path: str, body: Any = None, **query: Any) -> socket.socket:
        """Return a connection that carries the streams of a process from now on.

        Raises: EngineError.
        """
        content = b"" if body is None else json.dumps(body).encode()
        connection = self._connect()
        connection.sendall(
            f"POST {_target(path, query)} HTTP/1.1\r\nHost: pyrun\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        head = b""
        # Byte by byte: what follows belongs to the process.
        while not head.endswith(b"\r\n\r\n") and (byte := connection.recv(1)):
            head += byte
        status = int(head.split()[1]) if head else 0
        if status != 101:
            connection.settimeout(1.0)
            raise _refusal(status, connection.recv(65536) if head else b"")
        connection.settimeout(None)
        return connection

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_TIMEOUT_S)
        try:
            connection.connect(self._path)
        except OSError as exc:
            connection.close()
            raise EngineError(
                f"cannot reach the engine at {self._path}: {exc.strerror}; start it with pyrun serve, or name another"
                " in DOCKER_HOST"
            ) from exc
        return connection


def _target(path: str, query: dict[str, Any]) -> str:
    said = {key: "1" if value is True else value for key, value in query.items() if value not in (None, False)}
    return f"{_API}{path}" + (f"?{urlencode(said)}" if said else "")


def _refusal(status: int, content: bytes) -> EngineError:
    try:
        return EngineError(str(json.loads(content)["message"]), status)
    except (ValueError, KeyError, TypeError):
        return EngineError(
            f"the engine answered with status {status}: {content[:500].decode(errors='replace')}", status
        )
