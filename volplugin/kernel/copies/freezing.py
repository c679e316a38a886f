"""Filesystems that stand still for a moment, so that what is below them is consistent.

A freeze outlives the process that made it, and everybody who writes waits for its end. So somebody else ends it, too.

Source: ioctl_fsfreeze in fs/ioctl.c; fsfreeze(8).
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pluginkit import command
from pluginkit.errors import KernelError
from volplugin.kernel.syscalls import refused, sync_filesystem

_FIFREEZE = 0xC0045877
_FITHAW = 0xC0045878


@contextmanager
def frozen(target: Path, timeout_s: float) -> Iterator[None]:
    """Inside the block what was written to the filesystem mounted at `target` is below it, and no more comes.

    Raises: KernelError: it cannot be, or was not until the end of the block, because that took more than `timeout_s`.
    """
    with refused("freeze", target):
        descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with refused("freeze", target):
            # Most of what freezing would have to wait for, before anybody waits for it.
            sync_filesystem(descriptor)
        with command.afterwards(["fsfreeze", "--unfreeze", str(target)], timeout_s=timeout_s):
            began = time.monotonic()
            with refused("freeze", target):
                fcntl.ioctl(descriptor, _FIFREEZE, 0)
            try:
                # If it took that long, who should end it may have come before there was anything to end.
                if time.monotonic() - began > timeout_s:
                    raise _lost(target, timeout_s)
                yield
            except BaseException:
                _thaw(descriptor)
                raise
            if not _thaw(descriptor):
                raise _lost(target, timeout_s)
    finally:
        os.close(descriptor)


def _lost(target: Path, timeout_s: float) -> KernelError:
    hint = f"it was thawed by others, or took more than {timeout_s:g} s"
    return KernelError("keep frozen", str(target), errno.EINVAL, hint)


class Freezer:
    """Freezes filesystems, one or several at one instant. Callers see to it that nobody else does."""

    def __init__(self) -> None:
        self._held: set[Path] = set()

    @contextmanager
    def together(self, targets: Sequence[Path], timeout_s: float) -> Iterator[None]:
        """Inside the block all of `targets` that are mounted are frozen, also after a `frozen` of one of them.

        Raises: KernelError: they cannot be, or one was not until the end of the block, because that took too long.
        """
        mounted = [target for target in targets if target.is_mount()]
        with ExitStack() as all_of_them:
            for target in mounted:
                all_of_them.enter_context(frozen(target, timeout_s))
            self._held.update(mounted)
            try:
                yield
            finally:
                self._held.difference_update(mounted)

    @contextmanager
    def frozen(self, target: Path, timeout_s: float) -> Iterator[None]:
        """Inside the block the filesystem mounted at `target` is frozen. Raises: KernelError: as `frozen`."""
        if target in self._held:
            yield
        else:
            with frozen(target, timeout_s):
                yield


def thaw(target: Path) -> None:
    """The filesystem mounted at `target`, if one is, is not frozen. Raises: KernelError."""
    if target.is_mount():
        with refused("thaw", target):
            descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _thaw(descriptor)
            finally:
                os.close(descriptor)


def is_frozen(target: Path) -> bool:
    """Tell whether the filesystem mounted at `target` is frozen, for which it is frozen for a moment if it is not.

    The kernel has no other way to ask. Raises: KernelError.
    """
    with refused("look at", target):
        descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                # So that there is nothing to write when others have to wait.
                sync_filesystem(descriptor)
                fcntl.ioctl(descriptor, _FIFREEZE, 0)
            except OSError as exc:
                if exc.errno == errno.EBUSY:
                    return True
                # One in which the kernel has found damage cannot be frozen.
                if exc.errno == errno.EROFS:
                    return False
                raise
            _thaw(descriptor)
        finally:
            os.close(descriptor)
    return False


def _thaw(descriptor: int) -> bool:
    """Tell whether it was frozen until now."""
    try:
        fcntl.ioctl(descriptor, _FITHAW, 0)
    except OSError as exc:
        if exc.errno == errno.EINVAL:
            return False
        raise
    return True
