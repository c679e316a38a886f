"""Whether volumes are in use, and how much is in them: what is asked of the machine and never recorded."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pluginkit.errors import KernelError
from volplugin.kernel import backing, loopctl, mountinfo, resizing
from volplugin.kernel.copies import copying
from volplugin.kernel.disks import check_there, is_lost
from volplugin.kernel.encryption.keys import Keys
from volplugin.kernel.loopdev import LoopDevices
from volplugin.kernel.syscalls import refused
from volplugin.resources import BindMount, Mount


class Usage:
    """Answers the driver's questions about volumes."""

    def __init__(self, devices: LoopDevices, keys: Keys) -> None:
        self._devices = devices
        self._keys = keys

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
                if number is None:
                    hint = "what is in use is another file, deleted or replaced since; 'pyvol doctor' tells more"
                    raise KernelError("look at", str(mount.path), errno.ESTALE, hint)
                found["direct_io"] = loopctl.is_direct(number)
                # The others grow while they are mounted, and what they write of it is not on the device at once.
                if mount.fs == "ext4":
                    short = resizing.is_short(loopctl.node(number), mount.fs, loopctl.size_bytes(number))
                    found |= {"grows_at_next_mount": True} if short else {}
        return found

    def is_there(self, disk: Path) -> bool:
        """Tell whether there is the directory of volumes of a pool: it is mounted."""
        return disk.is_dir()

    def is_lost(self, disk: Path) -> bool:
        """Tell whether the directory was in a pool whose file is gone."""
        return is_lost(disk)

    def is_taken(self, mount: Mount | BindMount) -> bool:
        """Tell whether there is a finished backing file where that of the volume would be, recorded or not."""
        return isinstance(mount, Mount) and backing.is_taken(mount.path)

    def available(self, disk: Path) -> int:
        """Return the bytes that a file below the directory `disk` may still take of its disk.

        Raises: KernelError: it cannot be looked at.
        """
        with refused("look at", disk):
            visible = os.statvfs(_there(disk))
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

    def check_key(self, mount: Mount | BindMount) -> None:
        """The volume's key could be read, if it has one. Raises: PluginError."""
        if isinstance(mount, Mount) and mount.key_source is not None:
            self._keys.check(mount.key_source)

    def has_reflinks(self, disk: Path) -> bool:
        """Tell whether a copy of a backing file below `disk` takes no time, because its content is shared.

        Raises: KernelError: it cannot be tried.
        """
        return copying.has_reflinks(_there(disk))

    def volumes(self, disk: Path) -> list[str]:
        """Return the names of the volumes that have a finished backing file below `disk`, recorded or not."""
        return backing.finished(disk)

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


def _there(disk: Path) -> Path:
    check_there(disk)
    # It is made with the first volume.
    return next(path for path in (disk, *disk.parents) if path.exists())
