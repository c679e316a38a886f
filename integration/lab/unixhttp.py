"""Asking a program that speaks HTTP on a Unix socket whether it is there."""

import http.client
import socket
from pathlib import Path


def status(path: Path, method: str, target: str, timeout_s: float = 5.0) -> int:
    """The HTTP status of one request, or 0 if nobody answered."""
    connection = http.client.HTTPConnection("lab", timeout=timeout_s)
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(timeout_s)
        connection.sock.connect(str(path))
        connection.request(method, target)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
