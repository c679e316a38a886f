"""Asking a program that speaks HTTP on a Unix socket whether it is there."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any


def ask(path: Path, target: str, body: object, timeout_s: float = 5.0) -> Any:
    """The JSON that is answered to a POST of that body as JSON."""
    return json.loads(_exchange(path, "POST", target, json.dumps(body), timeout_s)[1])


def text(path: Path, target: str, timeout_s: float = 5.0) -> str:
    """What is answered to a GET."""
    return _exchange(path, "GET", target, "", timeout_s)[1].decode()


def status(path: Path, method: str, target: str, body: str = "", timeout_s: float = 5.0) -> int:
    """The HTTP status of one request, or 0 if nobody answered."""
    try:
        return _exchange(path, method, target, body, timeout_s)[0]
    except (OSError, http.client.HTTPException):
        return 0


def _exchange(path: Path, method: str, target: str, body: str, timeout_s: float) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("lab", timeout=timeout_s)
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(timeout_s)
        connection.sock.connect(str(path))
        # dockerd 28 reads no body of which it is not told what it is.
        connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
