"""Who has a port. /proc is walked for the text of an error, once somebody has already been refused."""

from __future__ import annotations

import os
from pathlib import Path

from netplugin.kernel.ports.sockets import open_inodes
from netplugin.records import Protocol

_UNKNOWN = "a process that cannot be seen from here"


def describe(protocol: Protocol, port: int) -> str:
    """Return the names of the processes that have `port` open, such as "nginx (pid 4711)"."""
    return describe_run(protocol, port, 1) or _UNKNOWN


def describe_run(protocol: Protocol, first: int, count: int) -> str:
    """Return the names of the processes that have one of `count` ports open; "" if nobody has."""
    inodes = open_inodes(protocol, first, first + count - 1)
    if not inodes:
        return ""
    return " and ".join(sorted(_processes(inodes))) or _UNKNOWN


def _processes(inodes: set[int]) -> set[str]:
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
