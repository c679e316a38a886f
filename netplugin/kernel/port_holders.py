"""Who has a port, for the text of an error: /proc is walked only once somebody has already been refused."""

from __future__ import annotations

import os
from pathlib import Path

from netplugin.records import Protocol

_UNKNOWN = "a process that cannot be seen from here"


def describe(protocol: Protocol, port: int) -> str:
    """Return the names of the processes that have `port` open, such as "nginx (pid 4711)".

    Source: proc(5): /proc/net/tcp, udp: the local address and port in hexadecimal are field 1, the inode is field 9.
    """
    inodes = {inode for table in (protocol, f"{protocol}6") for inode in _inodes(table, port)}
    found = sorted(_processes(inodes))
    return " and ".join(found) if found else _UNKNOWN


def _inodes(table: str, port: int) -> list[str]:
    try:
        lines = Path(f"/proc/self/net/{table}").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return []
    suffix = f":{port:04X}"
    return [fields[9] for fields in map(str.split, lines) if fields[1].endswith(suffix)]


def _processes(inodes: set[str]) -> set[str]:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    found: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            with os.scandir(process / "fd") as descriptors:
                if any(_target(descriptor.path) in wanted for descriptor in descriptors):
                    name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                    found.add(f"{name} (pid {process.name})")
        except OSError:
            # It ended while we looked.
            continue
    return found


def _target(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - thousands of them, as fast as can be
    except OSError:
        return ""
