"""Values below /proc/sys."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from netplugin.resources import Sysctl
from pluginkit.errors import KernelError

_ROOT = Path("/proc/sys")


class Sysctls:
    """The sysctls of this network namespace."""

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

    def remove(self, want: Sysctl) -> None:
        """Nothing is changed.

        An interface's value goes with the interface; others may by now rely on a host-wide one, as on ip_forward.
        """

    def owned(self) -> Iterable[Sysctl]:
        """Return nothing: a value carries no name."""
        return ()
