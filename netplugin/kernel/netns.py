"""Sockets in network namespaces of others, for whoever sends packets there. The plugin itself never enters one."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyroute2 import netns

from pluginkit.errors import KernelError


def open_socket(namespace: Path, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """Return a new socket that is in the network namespace of that file, such as /proc/PID/ns/net.

    Raises: KernelError: there is no such namespace, or we may not enter it.
    """

    def inside() -> socket.socket:
        try:
            netns.setns(str(namespace))
            return socket.socket(family, kind, protocol)
        except OSError as exc:
            raise KernelError("enter", f"the network namespace {namespace}", exc.errno or 0) from exc

    # A thread of its own, which ends: it does not come back from there.
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(inside).result()
