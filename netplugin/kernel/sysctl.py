"""Values below /proc/sys."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from netplugin.resources import Sysctl
from pluginkit.errors import KernelError

_ROOT = "/proc/sys/"
_BYTES = 4096
_OF_PORT = re.compile(r"/pn[viox]")


class Sysctls:
    """The sysctls of this network namespace. What was ensured is remembered: nothing tells when others change it."""

    def __init__(self) -> None:
        self._wanted: dict[str, str] = {}

    def ensure(self, want: Sysctl) -> None:
        """The value is as wanted, or the file is missing and that was allowed."""
        try:
            if _read(want.path) != want.value:
                Path(_ROOT, want.path).write_text(want.value, encoding="ascii")
        except FileNotFoundError as exc:
            if not want.optional:
                raise KernelError("set", want.path, exc.errno or 0, "does the kernel have IPv6?") from exc
        except OSError as exc:
            raise KernelError("set", want.path, exc.errno or 0, "is /proc/sys writable here?") from exc
        if not _OF_PORT.search(want.path):
            self._wanted[want.path] = want.value

    def changed(self) -> str:
        """Return the path of one that others have changed; "" if there is none.

        Those of bridges: a port, of which there are thousands, has none that matters as much.
        """
        for path, value in list(self._wanted.items()):
            try:
                if _read(path) != value:
                    return path
            except OSError:
                # It went with its interface, which is missed as such.
                continue
        return ""

    def remove(self, want: Sysctl) -> None:
        """Nothing is changed, and nothing missed any more.

        An interface's value goes with the interface; others may by now rely on a host-wide one, as on ip_forward.
        """
        self._wanted.pop(want.path, None)

    def owned(self) -> Iterable[Sysctl]:
        """Return nothing: a value carries no name."""
        return ()


def _read(path: str) -> str:
    """Return the value. There are thousands, each read every few seconds, so without a file object around it."""
    file = os.open(_ROOT + path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, _BYTES).decode("ascii").strip()
    finally:
        os.close(file)
