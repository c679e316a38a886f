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
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from pluginkit.errors import KernelError, StateError
from volplugin.kernel import filesystem, formats, loopctl, mountinfo, resizing
from volplugin.kernel.encryption import fscrypt
from volplugin.kernel.encryption.keys import Keys
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
    """The mounts below two directories: of backing files and host directories below `root`, below `pools` of pools."""

    def __init__(
        self,
        root: Path,
        pools: Path,
        devices: LoopDevices,
        sources: SourceDirectories,
        keys: Keys,
        table: mountinfo.Table,
    ) -> None:
        self._roots = (root, pools)
        self._devices = devices
        self._sources = sources
        self._keys = keys
        self._table = table

    def ensure(self, want: Mount | BindMount) -> None:
        """What is wanted, and nothing else, is visible at the mount point."""
        match want:
            case Mount():
                self._ensure_filesystem(want)
            case BindMount():
                self._ensure_directory(want)

    def remove(self, want: Mount | BindMount | MountPoint) -> None:
        """Nothing is mounted at the mount point, in any mount namespace, and it is gone.

        Raises: KernelError: it is in use, by whom the message tells; it is still mounted then. Not if it is lazy.
        """
        self._unmount_all(want.target, lazy=not isinstance(want, MountPoint) and want.lazy)
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
        """Return the mount points below our directories, mounted or not."""
        found = []
        for root in self._roots:
            # The directory's own entries, not what is mounted there: that may be broken.
            with suppress(FileNotFoundError), os.scandir(root) as entries:
                found += [MountPoint(root / entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
        return found

    def _ensure_filesystem(self, want: Mount) -> None:
        number = self._devices.find(want.path)
        if number is None:
            raise KernelError("mount", str(want.path), errno.ENXIO, "it has no loop device")
        mounted = self._table.at(want.target)
        tree = want.target / want.tree
        if mounted and (mounted.device, mounted.root) == (loopctl.device_id(number), "/"):
            # A container's root may take the key from the kernel.
            if want.key_source is not None and not fscrypt.is_unlocked(tree):
                with self._keys.opened(want.key_source) as key:
                    fscrypt.unlock(tree, key)
            _grow(want, number)
            return
        if mounted and (lost := loopctl.number(mounted.device)) is not None:
            # Its user would go on with one, and who comes now begin with the other.
            hint = f"its file was deleted or replaced while it is in use, as /dev/loop{lost}; 'pyvol doctor' tells more"
            raise KernelError("mount", str(want.path), errno.ESTALE, hint)
        with self._key(want) as key:
            self._prepare(want.target)
            _mount(want, number)
            if key is not None:
                try:
                    fscrypt.unlock(tree, key)
                except BaseException:
                    # Nobody is to see it locked, or to write to it as it is.
                    self._unmount_all(want.target)
                    raise
        _grow(want, number)

    def _key(self, want: Mount) -> AbstractContextManager[bytearray | None]:
        return nullcontext() if want.key_source is None else self._keys.opened(want.key_source)

    def _ensure_directory(self, want: BindMount) -> None:
        with self._sources.opened(want.source) as directory:
            mounted = self._table.at(want.target)
            with refused("look at", want.target):
                if mounted and os.path.samestat(os.fstat(directory), want.target.stat()):
                    return
            self._prepare(want.target)
            with refused("mount", want.source):
                bind_mount(directory, want.target, want.options)

    def _prepare(self, target: Path) -> None:
        """The mount point is there with nothing mounted on it."""
        self._unmount_all(target)
        with refused("make the mount point", target):
            target.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _unmount_all(self, target: Path, *, lazy: bool = False) -> None:
        while mounted := self._table.at(target):
            try:
                unmount(target, lazy=lazy)
            except OSError as exc:
                hint = "; ".join(mountinfo.users(mounted)) if exc.errno == errno.EBUSY else ""
                if hint and target.parent == self._roots[0]:
                    hint += f"; end that, or: pyvol detach --force {target.name}"
                raise KernelError("unmount", str(target), exc.errno or 0, hint) from exc


def _mount(want: Mount, number: int) -> None:
    with loopctl.until_last_close(number) as device:
        filesystem.make_clean(device, want.path, want.fs, loopctl.size_bytes(number))
        facts = formats.MOUNT_FACTS[want.fs]
        hint = f"the kernel's log says why; if it is damaged, it needs repair by hand: '{facts.repair} {want.path}'"
        with refused("mount", want.path, hint):
            mount(device, want.target, want.fs, (*facts.data, *want.options))


def _grow(want: Mount, number: int) -> None:
    """The filesystem, which is mounted, reaches to the end of the device, if it can be made to."""
    if "ro" not in want.options and resizing.is_short(loopctl.node(number), want.fs, loopctl.size_bytes(number)):
        resizing.grow_mounted(loopctl.node(number), want.target, want.fs)
