"""Directories of the host that users may have mounted as volumes: only what lies below an allowed root."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pluginkit.errors import BadRequest, KernelError
from volplugin.kernel.syscalls import open_beneath, refused
from volplugin.resources import ROOT, Owner, SourceDirectory


class SourceDirectories:
    """The directories below `roots`. A root's own path may contain links, which the administrator answers for."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots

    def ensure(self, want: SourceDirectory) -> None:
        """The directory is there and may be mounted. None that was there has been changed.

        Raises: BadRequest: not below a root; KernelError: it is missing and may not be made, or a link on the way.
        """
        if want.may_create:
            self._make(want)
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
        root = self._root_of(path)
        with refused("open", root):
            above = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            descriptor = _open(above, str(path.relative_to(root)), path)
        finally:
            os.close(above)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _root_of(self, path: Path) -> Path:
        return root_of(path, self._roots, f"source={path}", "a directory that may be mounted", "bind-root")

    def _make(self, want: SourceDirectory) -> None:
        """The directory and, if they may be made, those above it exist below their root."""
        root = self._root_of(want.path)
        parts = want.path.relative_to(root).parts
        with ExitStack() as opened:
            with refused("open", root):
                above = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, above)
            # One step at a time: nobody can put a link in the way between making a directory and stepping into it.
            for depth, part in enumerate(parts, start=1):
                if depth == len(parts) or want.with_parents:
                    _make_if_missing(above, part, want.owner if depth == len(parts) else ROOT, want.path)
                above = _open(above, part, want.path)
                opened.callback(os.close, above)


def root_of(path: Path, roots: Sequence[Path], what: str, fit: str, option: str) -> Path:
    """Return the root that the path is below. what: the path as it was told. fit: what roots of that option are.

    Raises: BadRequest: it is below none.
    """
    root = next((root for root in roots if path.is_relative_to(root)), None)
    if root is None:
        allowed = ", ".join(map(str, roots)) or "none"
        variable = f"PYVOL_{option.upper().replace('-', '_')}S"
        raise BadRequest(
            f"cannot use {what}: it is not below {fit} ({allowed}); pyvol serve takes them as --{option} or in"
            f" {variable}"
        )
    return root


def _open(above: int, below: str, path: Path) -> int:
    try:
        return open_beneath(above, below)
    except OSError as exc:
        hint = "symbolic links are not followed below a --bind-root" if exc.errno == errno.ELOOP else ""
        raise KernelError("open", str(path), exc.errno or 0, hint) from exc


def _make_if_missing(above: int, name: str, owner: Owner, path: Path) -> None:
    with refused("make", path):
        try:
            os.mkdir(name, 0o700, dir_fd=above)
        except FileExistsError:
            return
        made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        try:
            os.fchown(made, owner.uid, owner.gid)
            os.fchmod(made, owner.mode)
        finally:
            os.close(made)
