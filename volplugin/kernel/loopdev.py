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
from volplugin.kernel.syscalls import refused
from volplugin.resources import LoopDevice

log = logging.getLogger(__name__)

_DELETED = " (deleted)"

# A free device may be taken by others before we are there; the kernel names another one each time.
_ATTEMPTS = 64
_RELEASE_TIMEOUT_S = 2.0


class LoopDevices:
    """The loop devices on files below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # Where a file's device was last: asked first, and believed only if the kernel says so again.
        self._last: dict[Path, int] = {}

    def ensure(self, want: LoopDevice) -> None:
        """Exactly one device is on the backing file."""
        if self.find(want.path) is not None:
            return
        with refused("open", want.path):
            backing = os.open(want.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            for _ in range(_ATTEMPTS):
                number = loopctl.free_number()
                with refused("attach a loop device to", want.path):
                    if loopctl.configure(number, backing, want.sector):
                        self._last[want.path] = number
                        return
        finally:
            os.close(backing)
        hint = f"others took each of {_ATTEMPTS} free devices first"
        raise KernelError("attach a loop device to", str(want.path), errno.EBUSY, hint)

    def remove(self, want: LoopDevice) -> None:
        """No device is on the backing file, or the one there detaches itself with its last user, whom the log names."""
        for number in list(self._on(want.path)):
            loopctl.detach(number)
        if not self.wait_released(want.path):
            log.warning("%s keeps its loop device: %s", want.path, self.describe_holders(want.path))

    def owned(self) -> Iterable[LoopDevice]:
        """Return the devices on files below our directory, also on deleted ones."""
        found = {}
        for number, name in loopctl.in_use():
            path = Path(name.removesuffix(_DELETED))
            # Plugins in two mount namespaces may have the same directory's name; the file tells them apart.
            if path.is_relative_to(self._directory) and number in self._on(path):
                found[path] = LoopDevice(path)
        return found.values()

    def find(self, path: Path) -> int | None:
        """Return the number of the device on the file, or None."""
        wanted = loopctl.file_id(path)
        if wanted is None:
            return None
        last = self._last.get(path)
        if last is not None and loopctl.backing_file_id(last) == wanted:
            return last
        for number, _ in loopctl.in_use():
            if loopctl.backing_file_id(number) == wanted:
                self._last[path] = number
                return number
        self._last.pop(path, None)
        return None

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
        wanted = loopctl.file_id(path)
        for number, name in loopctl.in_use():
            if name == f"{path}{_DELETED}" or (wanted is not None and loopctl.backing_file_id(number) == wanted):
                yield number
