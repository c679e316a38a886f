"""Asks a running pynet over its own socket, as an engine does."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from pluginkit.errors import PluginError, Unavailable

_TIMEOUT_S = 30.0


def post(path: Path, method: str, request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one request.

    Raises: Unavailable: nobody answers there; PluginError: the answer was an error, with its text.
    """
    connection = http.client.HTTPConnection("pynet", timeout=_TIMEOUT_S)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(_TIMEOUT_S)
        connection.sock.connect(str(path))
        connection.request("POST", f"/{method}", json.dumps(request))
        answer = connection.getresponse()
        content: dict[str, Any] = json.loads(answer.read())
    except OSError as exc:
        raise Unavailable(f"cannot ask pynet on {path}: {exc}; is it running?") from exc
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise PluginError(content.get("Err", f"cannot read the answer of pynet on {path}"))
    return content
