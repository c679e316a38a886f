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
    if (mounted := _pool(path)) is not None and not mounted.is_dir():
        hint = f"its pool {mounted.parent.name} is not mounted; 'pyvol pool ls' tells why"
        raise KernelError("use", str(path), errno.ENOENT, hint)


def is_lost(path: Path) -> bool:
    """Tell whether the path is in a pool whose file is gone, and so is all that was in it."""
    mounted = _pool(path)
    if mounted is None or mounted.is_dir():
        return False
    return not any((mounted.parents[2] / POOLS / mounted.parent.name).glob("image.*"))


def without_file(path: Path) -> str:
    """Return what is to be done about a backing file that is not there, in words."""
    if path.parents[1].name == POOLS:
        gives_up = f"'pyvol pool rm --lost {path.parent.name}' gives up it and what was in it"
        return f"the pool's data is not where it was; is its disk mounted? Only {gives_up}"
    return "the volume's data is not where it was; is its disk mounted? Only removing the volume gives up"


def _pool(path: Path) -> Path | None:
    """Return the directory of volumes in the pool that the path is in, if it is in one."""
    parts = path.parts
    return Path(*parts[: parts.index(POOL_MOUNTS) + 3]) if POOL_MOUNTS in parts else None
