"""A small disk for a state directory: it fills up, fails, loses its power, and becomes read-only.

An ext4 on a loop device, whose file lies on a tmpfs that has just room for it. What has got into that file is what a
power cut leaves. While the file has lost its blocks and the tmpfs has no others, what is written to the device is an
input/output error, as it is with a disk that dies.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serving import until

MIB = 1 << 20
_BIG = "big"


class Disk:
    """It is mounted at `place`, in this mount namespace, until it is closed. `size`: in MiB."""

    def __init__(self, place: Path, size: int) -> None:
        self.place, self._size = place, size
        self._below = place.with_name("below")
        self._image = self._below / "image"
        for directory in (place, self._below):
            directory.mkdir(mode=0o700)
        _run("mount", "-t", "tmpfs", "-o", f"size={size + 1}M", "none", self._below)
        with self._image.open("wb") as file:
            file.truncate(size * MIB)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", self._image)
        self._mount()

    def close(self) -> None:
        """Nothing of it is mounted."""
        for directory in (self.place, self._below):
            # What lived on it may take a moment to end.
            until(lambda where=directory: not _fails("umount", where), f"{directory} is not busy")  # type: ignore[misc]

    @contextmanager
    def full(self) -> Iterator[None]:
        """Inside the block it has no room (ENOSPC)."""
        big = self.place / _BIG
        try:
            _fill(big, self._size)
            yield
        finally:
            big.unlink()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Inside the block nothing that is written gets to it (EIO); what was there is lost, unless it is reverted."""
        _run("fallocate", "--punch-hole", "--offset", "0", "--length", str(self._size * MIB), self._image)
        big = self._below / _BIG
        try:
            _fill(big, self._size)
            yield
        finally:
            big.unlink()

    def at_this_instant(self) -> bytes:
        """Return what a power cut would leave."""
        found = self._image.read_bytes()
        # The kernel may have been writing just then: what is read twice was there at one instant.
        while (again := self._image.read_bytes()) != found:
            found = again
        return found

    def revert(self, content: bytes) -> None:
        """It is mounted anew, with what it had when that was read; nobody uses it now."""
        until(lambda: not _fails("umount", self.place), f"{self.place} is not busy")
        self._image.write_bytes(content)
        self._mount()
        # That it was deleted may not have been on the disk yet.
        (self.place / _BIG).unlink(missing_ok=True)

    def remount(self, how: str) -> None:
        """It is "ro" or "rw" from now on."""
        _run("mount", "-o", f"remount,{how}", self.place)

    def _mount(self) -> None:
        _run("mount", "-o", "loop", self._image, self.place)
        self.place.chmod(0o700)


def _fill(file: Path, size: int) -> None:
    with pytest.raises(OSError, match="No space"):
        file.write_bytes(bytes((size + 2) * MIB))


def _run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True)


def _fails(*argv: str | Path) -> bool:
    return subprocess.run(argv, check=False, capture_output=True).returncode != 0
