"""Loop devices. One is known by the file that it is on, never by its number or by a name."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from pluginkit.errors import KernelError
from volplugin.kernel import loopctl, mountinfo
from volplugin.kernel.disks import without_file
from volplugin.kernel.leases import is_written
from volplugin.kernel.syscalls import refused
from volplugin.resources import STAGED, LoopDevice

log = logging.getLogger(__name__)

_DELETED = " (deleted)"

# A free device may be taken by others before we are there; the kernel names another one each time.
_ATTEMPTS = 64
_RELEASE_TIMEOUT_S = 2.0


class LoopDevices:
    """The loop devices on files below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # Where devices of a file were seen: asked first, and believed only if the kernel says so again.
        self._seen: dict[Path, set[int]] = {}
        self._looked = False

    def ensure(self, want: LoopDevice) -> None:
        """Exactly one device is on the backing file, and as large."""
        number = self.find(want.path)
        if number is not None:
            with refused("look at", want.path):
                if loopctl.size_bytes(number) != want.path.stat().st_size:
                    loopctl.fit(number)
            return
        with refused("open", want.path, "" if want.path.exists() else without_file(want.path)):
            backing = os.open(want.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            for _ in range(_ATTEMPTS):
                number = loopctl.free_number()
                with refused("attach a loop device to", want.path):
                    if loopctl.configure(number, backing, want.sector):
                        self._seen.setdefault(want.path, set()).add(number)
                        return
        finally:
            os.close(backing)
        hint = f"others took each of {_ATTEMPTS} free devices first"
        raise KernelError("attach a loop device to", str(want.path), errno.EBUSY, hint)

    def remove(self, want: LoopDevice) -> None:
        """No device is on the backing file, or the one there detaches itself with its last user, whom the log names."""
        for number in self._on(want.path):
            loopctl.detach(number)
        if not self.wait_released(want.path):
            log.warning("%s keeps its loop device: %s", want.path, self.describe_holders(want.path))

    def owned(self) -> Iterable[LoopDevice]:
        """Return the devices on files below our directory, also on deleted ones."""
        found = {}
        self._looked = True
        for number, name in loopctl.in_use():
            path = Path(name.removesuffix(_DELETED))
            if path.parent.name == STAGED and path.is_relative_to(self._directory) and loopctl.is_autoclear(number):
                # Somebody fills an image, and whatever becomes of him, the kernel ends it.
                continue
            # Plugins in two mount namespaces may have the same directory's name; the file tells them apart.
            if path.is_relative_to(self._directory) and _is_on(number, name, path):
                self._seen.setdefault(path, set()).add(number)
                found[path] = LoopDevice(path)
        return found.values()

    def find(self, path: Path) -> int | None:
        """Return the number of the device on the file, or None."""
        wanted = loopctl.file_id(path)
        if wanted is None:
            return None
        return next((number for number in self._on(path) if loopctl.backing_file_id(number) == wanted), None)

    def wait_released(self, path: Path) -> bool:
        """Wait a little for the kernel, which lets go of the file some time after the last unmount; tell if it has."""
        deadline = time.monotonic() + _RELEASE_TIMEOUT_S
        while any(True for _ in self._on(path)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def describe_holders(self, path: Path) -> str:
        """Return who keeps a device on the file busy, in words."""
        found: list[str] = []
        for number in self._on(path):
            found += map(str, mountinfo.holders(loopctl.device_id(number), "/"))
            found += mountinfo.users_of(loopctl.device_number(number))
        return "; ".join(found) or "by whom is not visible from here"

    def _on(self, path: Path) -> Iterator[int]:
        """Yield the devices on the file, and those on a deleted file of that path."""
        for number in tuple(self._seen.get(path, ())):
            if _is_on(number, loopctl.backing_file(number), path):
                yield number
            else:
                self._seen[path].discard(number)
        # To look at every device of the machine takes the longer the more there are. A device has its file open for
        # writing, which the file itself tells; those on deleted files were seen when we looked at all of them.
        if self._looked and not is_written(path):
            return
        for number, name in loopctl.in_use():
            if number not in self._seen.get(path, ()) and _is_on(number, name, path):
                self._seen.setdefault(path, set()).add(number)
                yield number


def _is_on(number: int, name: str, path: Path) -> bool:
    """Tell whether the device, which names its file so, is on the file `path`, or on a deleted one of that path."""
    if name == f"{path}{_DELETED}":
        return True
    wanted = loopctl.file_id(path)
    return wanted is not None and loopctl.backing_file_id(number) == wanted
