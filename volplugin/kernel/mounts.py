"""Mounts: one directory a volume below the mount root, and nothing else there.

Every new mount namespace begins with a copy of all mounts, and such a copy keeps a filesystem busy after it was
unmounted here. Where the mount is shared, the unmount reaches its copies. Where it is private, removing the mount point
does: the kernel then detaches what is mounted on it in any other namespace. So every mount has a mount point of its
own, which goes with it, and no mount of ours need be made shared.

Source: mount_namespaces(7), "Restrictions on mount namespaces"; fs/namespace.c __detach_mounts (Linux 3.18).
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from pluginkit.errors import KernelError, StateError
from volplugin.kernel import filesystem, formats, loopctl, mountinfo
from volplugin.kernel.loopdev import LoopDevices
from volplugin.kernel.sources import SourceDirectories
from volplugin.kernel.syscalls import bind_mount, mount, refused, unmount
from volplugin.resources import BindMount, Mount, MountPoint

log = logging.getLogger(__name__)

_MARK = ".pyvol"


def claim_root(root: Path) -> None:
    """The directory exists and is known to be ours, so that whatever is mounted below it may be swept.

    Raises: StateError: it holds something, and not our mark.
    """
    with refused("use the mount root", root):
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
        mark = root / _MARK
        if not mark.exists():
            if any(root.iterdir()):
                raise StateError(f"cannot use {root} as the mount root: it is not empty; give --mount-root one that is")
            mark.touch(mode=0o600)


class Mounts:
    """The mounts below one directory, of backing files and of host directories."""

    def __init__(self, root: Path, devices: LoopDevices, sources: SourceDirectories) -> None:
        self._root = root
        self._devices = devices
        self._sources = sources

    def ensure(self, want: Mount | BindMount) -> None:
        """What is wanted, and nothing else, is visible at the mount point."""
        match want:
            case Mount():
                self._ensure_filesystem(want)
            case BindMount():
                self._ensure_directory(want)

    def remove(self, want: Mount | BindMount | MountPoint) -> None:
        """Nothing is mounted at the mount point, in any mount namespace, and it is gone.

        Raises: KernelError: it is in use, by whom the message tells; it is still mounted then.
        """
        _unmount_all(want.target)
        try:
            want.target.rmdir()
        except FileNotFoundError:
            pass
        except OSError as exc:
            # Somebody wrote into the bare mount point. It is not ours to delete, and is in nobody's way.
            if exc.errno != errno.ENOTEMPTY:
                raise KernelError("remove the mount point", str(want.target), exc.errno or 0) from exc
            log.warning("%s stays: there are files in it that belong to no volume", want.target)

    def owned(self) -> Iterable[MountPoint]:
        """Return the mount points below our root, mounted or not."""
        # The directory's own entries, not what is mounted there: that may be broken.
        with os.scandir(self._root) as entries:
            return [MountPoint(self._root / entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]

    def _ensure_filesystem(self, want: Mount) -> None:
        number = self._devices.find(want.path)
        if number is None:
            raise KernelError("mount", str(want.path), errno.ENXIO, "it has no loop device")
        mounted = mountinfo.top(mountinfo.read(), want.target)
        if mounted and (mounted.device, mounted.root) == (loopctl.device_id(number), "/"):
            return
        _prepare(want.target)
        with loopctl.until_last_close(number) as device:
            filesystem.make_clean(device, want.path, want.fs)
            facts = formats.MOUNT_FACTS[want.fs]
            hint = f"the kernel's log says why; if it is damaged, it needs repair by hand: '{facts.repair} {want.path}'"
            with refused("mount", want.path, hint):
                mount(device, want.target, want.fs, (*facts.data, *want.options))

    def _ensure_directory(self, want: BindMount) -> None:
        with self._sources.opened(want.source) as directory:
            mounted = mountinfo.top(mountinfo.read(), want.target)
            with refused("look at", want.target):
                if mounted and os.path.samestat(os.fstat(directory), want.target.stat()):
                    return
            _prepare(want.target)
            with refused("mount", want.source):
                bind_mount(directory, want.target, want.options)


def _prepare(target: Path) -> None:
    """The mount point is there with nothing mounted on it."""
    _unmount_all(target)
    with refused("make the mount point", target):
        target.mkdir(mode=0o700, exist_ok=True)


def _unmount_all(target: Path) -> None:
    while mountinfo.top(mountinfo.read(), target):
        try:
            unmount(target)
        except OSError as exc:
            hint = "; ".join(mountinfo.users_below(target)) if exc.errno == errno.EBUSY else ""
            raise KernelError("unmount", str(target), exc.errno or 0, hint) from exc
