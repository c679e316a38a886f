"""Questions to an engine over its Unix socket. Source: Docker Engine API."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pluginkit.errors import Conflict, Unavailable

_TIMEOUT_S = 10.0
# A driver has time for its part.
_CHANGE_TIMEOUT_S = 60.0


class Refused(Conflict):
    """The engine has not done what it was asked for. status: of HTTP; reason: in its own words."""

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


def get(path: Path, what: str) -> Any:
    """Return the content of an answer of the engine on that Unix socket.

    Raises: OSError, HTTPException, ValueError.
    """
    with _asked(path, what) as (_, answer):
        return json.loads(answer.read())


def send(path: Path, method: str, what: str, content: Any = None) -> bytes:
    """The engine on that Unix socket has done what it was asked for; return what it says.

    content: bytes as they are, everything else as JSON.

    Raises: Refused: it has not, and its words say why. Unavailable: nobody knows.
    """
    body = content if content is None or isinstance(content, bytes) else json.dumps(content)
    try:
        with _asked(path, what, method, body, _CHANGE_TIMEOUT_S) as (_, answer):
            return answer.read()
    except _NotDone as exc:
        raise Refused(f"cannot have {method} {what} of the engine: {exc}", exc.status, exc.reason) from exc
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise Unavailable(f"cannot ask the engine on {path}: {exc}") from exc


@contextmanager
def lines(path: Path, what: str) -> Iterator[Iterator[Any]]:
    """Yield the lines of an answer that comes bit by bit, as long as the engine sends any.

    Raises: OSError, HTTPException, ValueError.
    """
    with _asked(path, what) as (way, answer):
        # There may be none for days.
        way.settimeout(None)
        yield (json.loads(line) for line in iter(answer.readline, b"") if line.strip())


class _NotDone(ValueError):
    """The engine answered, but not with what was asked for."""

    def __init__(self, what: str, status: int, reason: str) -> None:
        super().__init__(f"{what} is answered with {status}: {reason}")
        self.status, self.reason = status, reason


@contextmanager
def _asked(
    path: Path, what: str, method: str = "GET", body: str | bytes | None = None, timeout_s: float = _TIMEOUT_S
) -> Iterator[tuple[socket.socket, http.client.HTTPResponse]]:
    connection = http.client.HTTPConnection("engine", timeout=timeout_s)
    try:
        connection.sock = way = socket.socket(socket.AF_UNIX)
        way.settimeout(timeout_s)
        way.connect(str(path))
        connection.request(method, what, body, {"Content-Type": "application/json"} if isinstance(body, str) else {})
        answer = connection.getresponse()
        if not http.client.OK <= answer.status < http.client.MULTIPLE_CHOICES:
            raise _NotDone(what, answer.status, _message(answer.read()))
        yield way, answer
    finally:
        connection.close()


def _message(text: bytes) -> str:
    """Return what the engine says of an error."""
    try:
        return str(json.loads(text)["message"]).strip()
    except (ValueError, LookupError, TypeError):
        return "no reason given"


def name_of(path: Path) -> str:
    """Return what the engine on that Unix socket calls itself.

    Raises: Unavailable: none answers there.
    """
    told = json.loads(send(path, "GET", "/version"))
    return f"{(told.get('Platform') or {}).get('Name') or 'Engine'} {told['Version']}"
