"""Directories of the host that users may have mounted as volumes: only what lies below an allowed root."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pluginkit.errors import BadRequest, KernelError
from volplugin.kernel.syscalls import open_beneath, refused
from volplugin.resources import SourceDirectory


class SourceDirectories:
    """The directories below `roots`. A root's own path may contain links, which the administrator answers for."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots

    def ensure(self, want: SourceDirectory) -> None:
        """The directory is there and may be mounted; nothing was made or changed."""
        with self.opened(want.path):
            pass

    def remove(self, want: SourceDirectory) -> None:
        """Nothing is changed: the directory is its user's."""

    def owned(self) -> Iterable[SourceDirectory]:
        """Return nothing: no directory of the host is ours."""
        return ()

    @contextmanager
    def opened(self, path: Path) -> Iterator[int]:
        """Inside the block the descriptor is of the directory, whatever becomes of the names on the way to it.

        Raises: BadRequest: not below a root; KernelError: no directory, or a link on the way.
        """
        root = next((root for root in self._roots if path.is_relative_to(root)), None)
        if root is None:
            allowed = ", ".join(map(str, self._roots)) or "none"
            raise BadRequest(
                f"cannot use source={path}: it is not below a directory that may be mounted ({allowed}); pyvol serve"
                " takes them as --bind-root or in PYVOL_BIND_ROOTS"
            )
        with refused("open", root):
            above = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            descriptor = open_beneath(above, str(path.relative_to(root)))
        except OSError as exc:
            hint = "symbolic links are not followed below a --bind-root" if exc.errno == errno.ELOOP else ""
            raise KernelError("open", str(path), exc.errno or 0, hint) from exc
        finally:
            os.close(above)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
