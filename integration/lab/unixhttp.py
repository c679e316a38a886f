"""Asking a program that speaks HTTP on a Unix socket whether it is there."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any


def ask(path: Path, target: str, body: object, timeout_s: float = 5.0) -> Any:
    """The JSON that is answered to a POST of that body as JSON."""
    connection = http.client.HTTPConnection("lab", timeout=timeout_s)
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(timeout_s)
        connection.sock.connect(str(path))
        connection.request("POST", target, json.dumps(body), {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def status(path: Path, method: str, target: str, body: str = "", timeout_s: float = 5.0) -> int:
    """The HTTP status of one request, or 0 if nobody answered."""
    connection = http.client.HTTPConnection("lab", timeout=timeout_s)
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(timeout_s)
        connection.sock.connect(str(path))
        connection.request(method, target, body)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
