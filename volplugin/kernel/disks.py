"""The directories that hold volumes: one on the host's own filesystem, and one in each pool that is mounted."""

from __future__ import annotations

import errno
from pathlib import Path

from pluginkit.errors import KernelError
from volplugin.resources import POOL_MOUNTS, POOLS


def disks(volumes: Path) -> list[Path]:
    """Return the directories in which there are volumes now, or pools' files. volumes: the host's own."""
    return [volumes, volumes / POOLS, *sorted((volumes / POOL_MOUNTS).glob("*/*"))]


def check_there(path: Path) -> None:
    """Raises: KernelError: the path is in a pool that is not mounted, so what is in it cannot be told."""
    parts = path.parts
    if POOL_MOUNTS in parts:
        pool = parts.index(POOL_MOUNTS) + 1
        if not Path(*parts[: pool + 2]).is_dir():
            hint = f"its pool {parts[pool]} is not mounted; 'pyvol pool ls' tells why"
            raise KernelError("use", str(path), errno.ENOENT, hint)
