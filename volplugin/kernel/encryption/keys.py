"""The keys of encrypted volumes: read when one is mounted, from where the administrator has put them, and forgotten.

Users name the file of a key, or a program that prints it. So only what lies below the administrator's own directories
is taken: nobody has another file read, or another program run, by means of a volume.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pluginkit import command
from pluginkit.errors import CommandError, KernelError, Unavailable
from volplugin.kernel.sources import root_of
from volplugin.kernel.syscalls import open_beneath, refused
from volplugin.resources import KeySource

# Those that the kernel takes for AES-256.
_LEAST_BYTES, _MOST_BYTES = 32, 64
_OTHERS_READ, _OTHERS_WRITE = 0o077, 0o022
# Together with the check of the filesystem below dockerd's 120 s for Mount.
_PROGRAM_TIMEOUT_S = 10.0
_WAY_OUT = "without its key nobody reads the volume: put it back, or say where it is with pyvol set"


class Keys:
    """The keys below `roots`. A root's own path may contain links, which the administrator answers for."""

    def __init__(self, roots: Sequence[Path], program_timeout_s: float = _PROGRAM_TIMEOUT_S) -> None:
        self._roots = roots
        self._program_timeout_s = program_timeout_s

    def check(self, source: KeySource) -> None:
        """The key may be used, as far as can be told without reading it.

        Raises: BadRequest: it lies elsewhere; KernelError: it is not there; Unavailable: not only root may have it.
        """
        os.close(self._open(source))

    @contextmanager
    def opened(self, source: KeySource) -> Iterator[bytearray]:
        """Inside the block this is the key, which is nowhere in this process after it.

        Raises: as `check`; CommandError: the program failed; Unavailable: it has no length of a key.
        """
        descriptor = self._open(source)
        # One byte more than a key has, to see that there is no more.
        buffer = bytearray(_MOST_BYTES + 1)
        key = bytearray()
        try:
            if source.command:
                length = _printed(source, buffer, self._program_timeout_s)
            else:
                with refused("read the key", source.path):
                    length = os.readv(descriptor, [buffer])
            if not _LEAST_BYTES <= length <= _MOST_BYTES:
                raise _wrong_length(source, length)
            key = buffer[:length]
            yield key
        finally:
            os.close(descriptor)
            for used in (buffer, key):
                used[:] = bytes(len(used))

    def is_exposed(self, source: KeySource) -> bool:
        """Tell whether others than root may read the key. Raises: KernelError, BadRequest."""
        descriptor = self._reach(source)
        try:
            return not source.command and bool(os.fstat(descriptor).st_mode & _OTHERS_READ)
        finally:
            os.close(descriptor)

    def close(self, source: KeySource) -> None:
        """Only its owner may read the key. Raises: KernelError, BadRequest."""
        descriptor = self._reach(source)
        try:
            with refused("change the rights of", source.path):
                os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & ~_OTHERS_READ)
        finally:
            os.close(descriptor)

    def _open(self, source: KeySource) -> int:
        """Return a descriptor of the key's file, or of the program's, which are as they should be."""
        descriptor = self._reach(source)
        try:
            _check_private(os.fstat(descriptor), source)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _reach(self, source: KeySource) -> int:
        """Return a descriptor of the key's file, or of the program's."""
        root = root_of(source.path, self._roots, str(source), "a directory of keys", "key-root")
        with refused("open", root, _WAY_OUT):
            above = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # A pipe would wait for somebody who writes.
            return open_beneath(above, str(source.path.relative_to(root)), os.O_RDONLY | os.O_NONBLOCK)
        except OSError as exc:
            links = "symbolic links are not followed below a --key-root"
            hint = links if exc.errno == errno.ELOOP else _WAY_OUT
            raise KernelError("read the key", str(source.path), exc.errno or 0, hint) from exc
        finally:
            os.close(above)


def _check_private(found: os.stat_result, source: KeySource) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Unavailable(f"cannot use {source}: it is no regular file")
    if found.st_uid not in (0, os.geteuid()):
        raise Unavailable(f"cannot use {source}: it belongs to user {found.st_uid}; chown root {source.path}")
    if source.command and found.st_mode & _OTHERS_WRITE:
        raise Unavailable(f"cannot use {source}: not only root may write to it; chmod go-w {source.path}")
    if not source.command and found.st_mode & _OTHERS_READ:
        raise Unavailable(f"cannot use {source}: not only root may read it; chmod 600 {source.path}")


def _wrong_length(source: KeySource, length: int) -> Unavailable:
    had = f"{length} bytes" if length <= _MOST_BYTES else f"more than {_MOST_BYTES} bytes"
    return Unavailable(
        f"cannot use {source}: that has {had}; a key is {_LEAST_BYTES} to {_MOST_BYTES} random bytes and nothing else,"
        f" not even the end of a line: head -c {_MOST_BYTES} /dev/urandom"
    )


def _printed(source: KeySource, buffer: bytearray, timeout_s: float) -> int:
    """What the program prints is in the buffer, in which there is room for more; return how much that is."""
    deadline = time.monotonic() + timeout_s
    length = 0
    with command.reading(source.command, timeout_s=timeout_s) as out:
        # Past the file object's own buffer, which nobody would zero.
        descriptor = out.fileno()
        while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            got = os.readv(descriptor, [memoryview(buffer)[length:]])
            if not got:
                return length
            length += got
            if length == len(buffer):
                raise _wrong_length(source, length)
        raise CommandError(source.command, f"no end after {timeout_s:g} s, killed", None)
