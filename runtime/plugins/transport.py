"""One request to a plugin and its answer, over a Unix socket or TCP."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from runtime.errors import Failed
from runtime.kernel import connect
from runtime.plugins.discovery import Address

ACCEPT = "application/vnd.docker.plugins.v1.2+json"
MAX_ANSWER = 64 << 20


class Unreachable(Failed):
    """Nobody answered. What was asked may have been done."""


class Refused(Failed):
    """The plugin answered that it will not."""


class Unknown(Refused):
    """The plugin has no such method."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("plugin.moby.localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        connect(self.sock, Path(self._path))


def exchange(address: Address, method: str, body: bytes, timeout_s: float) -> dict[str, Any]:
    """Return the answer. A connection of its own: a kept one that the plugin closes just now cannot fail us.

    Raises: OSError: nobody answered in time; Refused: the plugin refused, its words are the message; Unknown.
    """
    connection: http.client.HTTPConnection
    if address.socket:
        connection = _UnixConnection(address.socket, timeout_s)
    elif address.tls:
        connection = http.client.HTTPSConnection(address.host, address.port, timeout=timeout_s, context=address.tls)
    else:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)
    try:
        connection.request("POST", f"/{method}", body, {"Accept": ACCEPT, "Connection": "close"})
        answer = connection.getresponse()
        content = answer.read(MAX_ANSWER)
    except http.client.HTTPException as exc:
        raise ConnectionError(f"it hung up: {exc!r}") from exc
    finally:
        connection.close()
    return _decode(method, answer.status, content)


def _decode(method: str, status: int, content: bytes) -> dict[str, Any]:
    text = content.decode("utf-8", "replace").strip()
    try:
        # As Go does: the first value counts, whatever follows it.
        decoded, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        decoded = None
        if status == 200:
            raise Refused(f"{method}: the answer is no JSON: {text[:200]!r}") from None
    fields = decoded if isinstance(decoded, dict) else {}
    # Volume and network drivers say Err, IPAM drivers Error.
    refusal = fields.get("Err") or fields.get("Error")
    if status != 200:
        kind = Unknown if status == 404 else Refused
        raise kind(f"{method}: {refusal or text[:2000] or f'status {status}'}")
    if refusal:
        raise Refused(f"{method}: {refusal}")
    return fields
