"""A volume that has a size: that it is kept to, and what happens at its end."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pluginkit.conform.case import Failed, expect
from volplugin.conform.case import Area
from volplugin.conform.stage import Stage

case = Area("size")
_MIB = 1 << 20
_SIZE = 48 * _MIB
_PIECE = os.urandom(256 * 1024)
# Filesystems take some of a small disk for themselves; of what is left they hold it all.
_LEAST = 0.6
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def _sized(stage: Stage) -> Path:
    stage.create_sized("small", "48M")
    return stage.mounted("c", "small")


def _fill(path: Path, most: int = 2 * _SIZE) -> int:
    """Return how many bytes the file took until there was no room. Raises: Failed: there was no end of it."""
    written = 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        while written < most:
            written += os.write(descriptor, _PIECE)
            os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in _NO_ROOM:
            raise Failed(f"what has no room is refused by {exc}") from exc
        return written
    finally:
        os.close(descriptor)
    raise Failed(f"{written >> 20} MiB were written to a volume of {_SIZE >> 20} MiB")


@case("size-kept", "docker volume create -o size=; docs.docker.com, local driver; moby/moby#32270")
def size_kept(stage: Stage) -> None:
    """A volume of 48 MiB takes less than 48 MiB, and most of them; then there is no room (ENOSPC)."""
    written = _fill(_sized(stage) / "file")
    expect(_LEAST * _SIZE <= written <= _SIZE, f"it took {written / _MIB:.1f} MiB")


@case("size-told", "POSIX.1-2017, statvfs(); df")
def size_told(stage: Stage) -> None:
    """Programs that ask are told its size and what is free, and that it is full when it is."""
    volume = _sized(stage)
    told = os.statvfs(volume)
    expect(_LEAST * _SIZE <= told.f_blocks * told.f_frsize <= _SIZE, f"it has {told.f_blocks * told.f_frsize} bytes")
    _fill(volume / "file")
    told = os.statvfs(volume)
    expect(told.f_bavail * told.f_frsize < _MIB, f"full, it has {told.f_bavail * told.f_frsize} bytes left")


@case("full-recovers", "POSIX.1-2017, write(): ENOSPC")
def full_recovers(stage: Stage) -> None:
    """What is removed from a full volume makes room; what was there before is what it was, three times."""
    volume = _sized(stage)
    (volume / "kept").write_bytes(_PIECE)
    for number in range(3):
        _fill(volume / "file")
        (volume / "file").unlink()
        (volume / f"after-{number}").write_bytes(_PIECE)
        expect((volume / "kept").read_bytes() == _PIECE, "what was there is something else")
    expect((volume / "after-0").read_bytes() == _PIECE, "what was written afterwards is something else")


@case("full-overwrites", "POSIX.1-2017, write()")
def full_overwrites(stage: Stage) -> None:
    """On a full volume files are read, overwritten, renamed and removed."""
    volume = _sized(stage)
    (volume / "kept").write_bytes(_PIECE)
    _fill(volume / "file")
    with (volume / "kept").open("r+b") as file:
        file.write(b"over")
        file.flush()
        os.fsync(file.fileno())
    (volume / "kept").rename(volume / "moved")
    expect((volume / "moved").read_bytes() == b"over" + _PIECE[4:], "it is not what was written over it")
    (volume / "moved").unlink()


@case("full-allocates", "posix_fallocate(3)")
def full_allocates(stage: Stage) -> None:
    """More than there is is not allocated (ENOSPC); what was allocated can be written."""
    volume = _sized(stage)
    descriptor = os.open(volume / "file", os.O_RDWR | os.O_CREAT)
    try:
        os.posix_fallocate(descriptor, 0, 8 * _MIB)
        try:
            os.posix_fallocate(descriptor, 0, 2 * _SIZE)
        except OSError as exc:
            expect(exc.errno in _NO_ROOM, f"it is refused by {exc}")
        else:
            expect(False, "more was allocated than there is")
        os.ftruncate(descriptor, 8 * _MIB)
        _fill(volume / "other")
        for start in range(0, 8 * _MIB, len(_PIECE)):
            expect(os.pwrite(descriptor, _PIECE, start) == len(_PIECE), "less was written than was allocated")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@case("full-files", "POSIX.1-2017, open(): ENOSPC")
def full_files(stage: Stage) -> None:
    """Where there is no room for more files, not even empty ones, their number goes down again."""
    volume = _sized(stage)
    (volume / "many").mkdir()
    made = 0
    try:
        while made < 1_000_000:
            os.close(os.open(volume / "many" / f"{made:0200}", os.O_CREAT | os.O_WRONLY))
            made += 1
    except OSError as exc:
        expect(exc.errno in _NO_ROOM, f"it is refused by {exc}")
    expect(made < 1_000_000, "a million files have room in 48 MiB")
    for path in (volume / "many").iterdir():
        path.unlink()
    (volume / "after").write_text("x")


@case("full-others", "docs.docker.com, local driver: size")
def full_others(stage: Stage) -> None:
    """A full volume takes nothing from another one."""
    full = _sized(stage)
    stage.create_sized("other", "48M")
    other = stage.mounted("d", "other")
    _fill(full / "file")
    for number in range(20):
        (other / f"{number}").write_bytes(_PIECE)


@case("full-restarts", "docker restart")
def full_restarts(stage: Stage) -> None:
    """A container starts again with its full volume, and finds what was written."""
    written = _fill(_sized(stage) / "file")
    stage.containers.kill("c")
    stage.containers.start("c")
    found = (stage.seen_by("c") / "file").read_bytes()
    whole = len(found) // len(_PIECE)
    expect(len(found) >= written, f"of {written} bytes {len(found)} are left")
    expect(found[: whole * len(_PIECE)] == _PIECE * whole, "it is not what was written")
    (stage.seen_by("c") / "file").unlink()
    (stage.seen_by("c") / "after").write_bytes(_PIECE)
