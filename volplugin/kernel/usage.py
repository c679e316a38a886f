"""Whether volumes are in use, and how much is in them: what is asked of the machine and never recorded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from volplugin.kernel import backing, loopctl, mountinfo
from volplugin.kernel.loopdev import LoopDevices
from volplugin.kernel.syscalls import refused
from volplugin.resources import BindMount, Mount


class Usage:
    """Answers the driver's questions about the volumes in one directory."""

    def __init__(self, volumes: Path, devices: LoopDevices) -> None:
        self._volumes = volumes
        self._devices = devices

    def holders(self, mount: Mount | BindMount) -> list[str]:
        """Return, in words, where other than below our own mount root the volume is mounted: in containers, that is.

        A copy of our mount in another mount namespace does not count: every new namespace begins with one. What we
        hand out of a backing file is a directory in it, so whatever shows the filesystem's root is such a copy.
        """
        return [str(holder) for holder in self._elsewhere(mount)]

    def space(self, mount: Mount | BindMount) -> dict[str, int | bool]:
        """Return what a backing file takes on the host's disk and, while it is mounted, what is used and available.

        direct_io: whether the host's cache is passed by.

        Raises: KernelError: it cannot be looked at.
        """
        if isinstance(mount, BindMount):
            return {}
        with refused("look at", mount.path):
            found: dict[str, int | bool] = {"allocated_bytes": mount.path.stat().st_blocks * 512}
            if mount.target.is_mount():
                visible = os.statvfs(mount.target)
                found["used_bytes"] = (visible.f_blocks - visible.f_bfree) * visible.f_frsize
                found["available_bytes"] = visible.f_bavail * visible.f_frsize
                # btrfs makes inodes as they are wanted, and says 0.
                if visible.f_files:
                    found["inodes"] = visible.f_files
                    found["inodes_available"] = visible.f_favail
                number = self._devices.find(mount.path)
                if number is not None:
                    found["direct_io"] = loopctl.is_direct(number)
        return found

    def available(self) -> int:
        """Return the bytes that a file below the directory may still take of its disk.

        Raises: KernelError: it cannot be looked at.
        """
        with refused("look at", self._volumes):
            # It is made with the first volume.
            there = next(path for path in (self._volumes, *self._volumes.parents) if path.exists())
            visible = os.statvfs(there)
        return visible.f_bavail * visible.f_frsize

    def allocated(self, mount: Mount | BindMount) -> int:
        """Return the bytes that a backing file takes of the host's disk, also while it is being made; 0 without one.

        Raises: KernelError: it cannot be looked at.
        """
        if isinstance(mount, BindMount):
            return 0
        with refused("look at", mount.path):
            for path in (mount.path, mount.path.with_name(mount.path.name + backing.NEW)):
                with suppress(FileNotFoundError):
                    return path.stat().st_blocks * 512
        return 0

    def volumes(self) -> list[str]:
        """Return the names of the volumes that have a finished backing file, recorded or not."""
        return backing.finished(self._volumes)

    def _elsewhere(self, mount: Mount | BindMount) -> Iterator[mountinfo.Holder]:
        match mount:
            case Mount():
                number = self._devices.find(mount.path)
                if number is not None:
                    yield from mountinfo.holders(loopctl.device_id(number), f"/{mount.tree}")
            case BindMount():
                own = mountinfo.top(mountinfo.read(), mount.target)
                if own is not None:
                    for holder in mountinfo.holders(own.device, own.root):
                        if not Path(holder.mounted.point).is_relative_to(mount.target.parent):
                            yield holder
