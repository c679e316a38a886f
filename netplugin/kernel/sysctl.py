"""Values below /proc/sys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from netplugin.resources import Sysctl
from pluginkit.errors import KernelError

_ROOT = Path("/proc/sys")
_OF_PORT = re.compile(r"/pn[viox]")


class Sysctls:
    """The sysctls of this network namespace. What was ensured is remembered: nothing tells when others change it."""

    def __init__(self) -> None:
        self._wanted: dict[str, str] = {}

    def ensure(self, want: Sysctl) -> None:
        """The value is as wanted, or the file is missing and that was allowed."""
        path = _ROOT / want.path
        try:
            if path.read_text(encoding="ascii").strip() != want.value:
                path.write_text(want.value, encoding="ascii")
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
                if (_ROOT / path).read_text(encoding="ascii").strip() != value:
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
