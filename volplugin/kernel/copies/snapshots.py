"""Snapshots: copies of backing files at an instant, by reflink where the disk has it; and the way back from them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pluginkit import command
from pluginkit.errors import KernelError
from volplugin.kernel.backing import NEW, discard, sync
from volplugin.kernel.copies.copying import copy
from volplugin.kernel.copies.freezing import Freezer, thaw
from volplugin.kernel.disks import check_there, disks, is_lost
from volplugin.kernel.loopdev import LoopDevices
from volplugin.kernel.syscalls import refused
from volplugin.resources import Origin, Restoration, SnapshotFile

# What a freeze may last, at the least; a copy without reflinks may take longer.
_FREEZE_S = 30.0
_COPY_BYTES_S = 20e6
_TUNE_TIMEOUT_S = 60.0
_TOKEN = "trusted.pyvol.restored"  # noqa: S105 - the name of an extended attribute


def copy_instant(origin: Origin, new: Path, devices: LoopDevices, freezer: Freezer) -> None:
    """`new` has what was in the backing file at one instant, mounted or not, as a power cut would have left it at most.

    Raises: KernelError, Exhausted. An unfinished `new` may be left.
    """
    with refused("copy", origin.path):
        allocated = origin.path.stat().st_blocks * 512
    mounted = origin.target is not None and origin.target.is_mount()
    if not mounted and not devices.wait_released(origin.path):
        hint = f"it is mounted, but not where pyvol mounts it: {devices.describe_holders(origin.path)}"
        raise KernelError("copy", str(origin.path), errno.EBUSY, hint)
    if mounted and origin.target is not None:
        with freezer.frozen(origin.target, _FREEZE_S + allocated / _COPY_BYTES_S):
            copy(origin.path, new)
    else:
        copy(origin.path, new)


class SnapshotFiles:
    """The snapshots of volumes, below `name` beside these, with a directory for each volume. directory: of volumes."""

    def __init__(self, directory: Path, name: str, devices: LoopDevices, freezer: Freezer) -> None:
        self._directory = directory
        self._name = name
        self._devices = devices
        self._freezer = freezer

    def ensure(self, want: SnapshotFile) -> None:
        """The snapshot is there, whole and on the disk. One that has its final name is never made again."""
        check_there(want.path)
        if want.path.exists():
            return
        if not want.may_create:
            hint = "the snapshot's data is not where it was; is its disk mounted? Only removing the snapshot gives up"
            raise KernelError("use", str(want.path), errno.ENOENT, hint)
        new = want.path.with_name(want.path.name + NEW)
        with refused("make", want.path.parent):
            want.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            discard(new)
        copy_instant(want.origin, new, self._devices, self._freezer)
        put_in_place(new, want.path)
        with refused("make", want.path):
            sync(want.path.parent.parent)

    def remove(self, want: SnapshotFile) -> None:
        """The snapshot is gone, and so is what an interrupted one left: also the freeze."""
        if is_lost(want.path):
            return
        check_there(want.path)
        # Of a finished one nothing is frozen, but perhaps for a copy that somebody else makes just now.
        if want.may_create and want.origin.target is not None:
            thaw(want.origin.target)
        with refused("delete", want.path):
            discard(want.path)
            discard(want.path.with_name(want.path.name + NEW))
            with suppress(FileNotFoundError):
                try:
                    want.path.parent.rmdir()
                except OSError as exc:
                    if exc.errno != errno.ENOTEMPTY:
                        raise

    def owned(self) -> Iterable[SnapshotFile]:
        """Return what interrupted ones left. A finished snapshot that no record wants is never listed.

        It may be all that is left of somebody's data.
        """
        nowhere = Origin(self._directory, self._directory)
        for disk in disks(self._directory):
            for directory in sorted((disk / self._name).glob("*")):
                # It may be removed just now.
                with suppress(FileNotFoundError):
                    for path in sorted(directory.glob(f"*{NEW}")):
                        finished = path.with_name(path.name.removesuffix(NEW))
                        # By that name it is known that it may be a copy which is being made just now.
                        if not finished.exists():
                            yield SnapshotFile(finished, nowhere, may_create=False)


class Restorations:
    """Backing files that get the content of a snapshot."""

    def __init__(self, devices: LoopDevices) -> None:
        self._devices = devices

    def ensure(self, want: Restoration) -> None:
        """The backing file had the snapshot's content once since this was wanted.

        The new content comes with its token and by one rename: whenever this is cut short, there is the old or the new.
        """
        with refused("restore", want.path):
            if _token(want.path) == want.token:
                return
        if not self._devices.wait_released(want.path):
            hint = f"it is still mounted: {self._devices.describe_holders(want.path)}"
            raise KernelError("restore", str(want.path), errno.EBUSY, hint)
        new = want.path.with_name(want.path.name + NEW)
        with refused("restore", want.path):
            discard(new)
        copy(want.snapshot, new)
        with refused("restore", want.path):
            os.truncate(new, want.size_bytes)
            os.setxattr(new, _TOKEN, want.token.encode())
        put_in_place(new, want.path)

    def remove(self, want: Restoration) -> None:
        """Nothing is changed: it is over, and what is in the file is the volume's."""

    def owned(self) -> Iterable[Restoration]:
        """Return nothing: backing files are looked for, not what is in them."""
        return ()


def put_in_place(new: Path, path: Path) -> None:
    """`new` is on the disk and is `path` from now on, whatever that was. Raises: KernelError."""
    with refused("make", path):
        descriptor = os.open(new, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.rename(path)
        sync(path.parent)


def make_distinct(image: Path, fs: str) -> None:
    """The filesystem in the copy may be mounted beside the one that it is a copy of. Raises: CommandError.

    ext4 does not mind, xfs is mounted with nouuid; btrfs takes two of one UUID for one.
    """
    if fs == "btrfs":
        command.run(["btrfstune", "-f", "-m", str(image)], timeout_s=_TUNE_TIMEOUT_S)


def _token(path: Path) -> str:
    try:
        return os.getxattr(path, _TOKEN).decode()
    except OSError as exc:
        if exc.errno in (errno.ENODATA, errno.ENOENT):
            return ""
        raise
