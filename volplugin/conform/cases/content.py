"""What is written to files, in all ways that there are, and read again."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pluginkit.conform.case import Failed, expect
from volplugin.conform.case import Area
from volplugin.conform.stage import Stage, at_once
from volplugin.kernel import syscalls

case = Area("content")
_POSIX = "POSIX.1-2017"
_MOST = 256 * 1024
_STEPS = 1500
_BLOCK = 4096


class _Twice:
    """A file, and what it should hold. Each step is done to both."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.path, self.chance, self.model = path, chance, bytearray()
        self.file = os.open(path, os.O_RDWR | os.O_CREAT)

    def _span(self) -> tuple[int, int]:
        start = self.chance.randrange(_MOST)
        return start, self.chance.randrange(1, min(_MOST - start, 40_000) + 1)

    def _fill(self, start: int, content: bytes) -> None:
        if len(self.model) < start:
            self.model.extend(bytes(start - len(self.model)))
        self.model[start : start + len(content)] = content

    def write(self) -> None:
        """Some bytes are written somewhere."""
        start, length = self._span()
        content = self.chance.randbytes(length)
        expect(os.pwrite(self.file, content, start) == length, "less was written")
        self._fill(start, content)

    def append(self) -> None:
        """Some bytes are written behind the end."""
        content = self.chance.randbytes(self.chance.randrange(1, 5000))
        if len(self.model) + len(content) > _MOST:
            return
        with self.path.open("ab") as file:
            file.write(content)
        self.model.extend(content)

    def read(self) -> None:
        """Some bytes are what they were."""
        start, length = self._span()
        expect(os.pread(self.file, length, start) == self.model[start : start + length], f"bytes from {start} differ")

    def truncate(self) -> None:
        """The file ends elsewhere."""
        size = self.chance.randrange(_MOST)
        os.ftruncate(self.file, size)
        self.model[size:] = bytes(max(0, size - len(self.model)))

    def punch(self) -> None:
        """Some bytes have become a hole."""
        start, length = self._span()
        syscalls.punch(self.file, start, length)
        length = max(0, min(length, len(self.model) - start))
        self.model[start : start + length] = bytes(length)

    def map(self) -> None:
        """Some bytes are written and read by a mapping."""
        if not self.model:
            return
        with mmap.mmap(self.file, len(self.model)) as mapped:
            start = self.chance.randrange(len(self.model))
            content = self.chance.randbytes(min(5000, len(self.model) - start))
            mapped[start : start + len(content)] = content
            self.model[start : start + len(content)] = content
            expect(mapped[:] == self.model, "a mapping differs")

    def direct(self) -> None:
        """A few blocks are written around the cache."""
        start = self.chance.randrange(_MOST // _BLOCK - 4) * _BLOCK
        content = self.chance.randbytes(self.chance.randrange(1, 5) * _BLOCK)
        _direct(self.path, partial(_write_direct, content, start))
        self._fill(start, content)

    def reopen(self) -> None:
        """The file was closed, with or without fsync."""
        if self.chance.random() < 0.5:
            os.fsync(self.file)
        os.close(self.file)
        self.file = os.open(self.path, os.O_RDWR)

    def whole(self) -> None:
        """All of it is what it should be."""
        expect(self.path.read_bytes() == self.model, "the file differs")
        expect(self.path.stat().st_size == len(self.model), "its size differs")


def _direct(path: Path, what: Callable[[int], None]) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_DIRECT)
    try:
        what(descriptor)
    finally:
        os.close(descriptor)


def _write_direct(content: bytes, start: int, descriptor: int) -> None:
    # Anonymous mappings begin at a page, which O_DIRECT asks for.
    with mmap.mmap(-1, len(content)) as aligned:
        aligned[:] = content
        expect(os.pwrite(descriptor, aligned, start) == len(content), "less was written around the cache")


def _played(stage: Stage, ways: tuple[str, ...]) -> None:
    chance = random.Random(stage.seed)  # noqa: S311 - to be repeated
    twice = _Twice(stage.folder() / "file", chance)
    try:
        for number in range(_STEPS):
            way = chance.choice(ways)
            try:
                getattr(twice, way)()
                if number % 50 == 0:
                    twice.whole()
            except (Failed, OSError) as exc:
                raise Failed(f"step {number} with --seed {stage.seed}, {way}: {exc}") from exc
        twice.whole()
    finally:
        os.close(twice.file)


@case("random-plain", "fsx of the xfstests: write, read, truncate, append")
def random_plain(stage: Stage) -> None:
    """After 1500 random writes, appends, truncations and reads a file holds what it should."""
    _played(stage, ("write", "append", "read", "truncate", "reopen"))


@case("random-all", "fsx of the xfstests: mapped, direct and punched too")
def random_all(stage: Stage) -> None:
    """So it does when mappings, holes and writing around the cache come into it."""
    _played(stage, ("write", "append", "read", "truncate", "punch", "map", "direct", "reopen"))


@case("direct", "open(2): O_DIRECT; databases")
def direct(stage: Stage) -> None:
    """What is written around the cache is read by it, and the other way round."""
    file = stage.folder() / "file"
    file.write_bytes(b"c" * 8 * _BLOCK)
    _direct(file, partial(_write_direct, b"d" * _BLOCK, 2 * _BLOCK))
    expect(file.read_bytes() == b"c" * 2 * _BLOCK + b"d" * _BLOCK + b"c" * 5 * _BLOCK, "the cache has something else")

    def read(descriptor: int) -> None:
        with mmap.mmap(-1, 8 * _BLOCK) as aligned:
            expect(os.preadv(descriptor, [aligned], 0) == 8 * _BLOCK, "less was read")
            expect(aligned[:] == file.read_bytes(), "something else was read around the cache")

    _direct(file, read)


@case("mapped", "mmap(2): MAP_SHARED, msync(2)")
def mapped(stage: Stage) -> None:
    """A mapping shows what is written to the file, and the file what is written to the mapping."""
    file = stage.folder() / "file"
    file.write_bytes(bytes(3 * _BLOCK))
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as shown:
        os.pwrite(opened.fileno(), b"written", 5000)
        expect(shown[5000:5007] == b"written", "the mapping does not show what was written")
        shown[100:106] = b"mapped"
        expect(os.pread(opened.fileno(), 6, 100) == b"mapped", "the file does not show what was mapped")
        shown.flush()
    expect(file.read_bytes()[100:106] == b"mapped", "it was lost")


@case("append-at-once", f"{_POSIX}, write(): O_APPEND")
def append_at_once(stage: Stage) -> None:
    """What eight writers append at once is all there, line by line."""
    file = stage.folder() / "file"

    def append(writer: int) -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for number in range(200):
            os.write(descriptor, b"%d %d\n" % (writer, number))
        os.close(descriptor)

    at_once([partial(append, writer) for writer in range(8)])
    found = sorted(tuple(map(int, line.split())) for line in file.read_text().splitlines())
    expect(found == [(writer, number) for writer in range(8) for number in range(200)], "lines are lost, or mixed")


@case("sparse", "lseek(2): SEEK_DATA, SEEK_HOLE")
def sparse(stage: Stage) -> None:
    """A hole takes no room, reads as zeros, and is found."""
    file = stage.folder() / "file"
    with file.open("w+b") as opened:
        opened.truncate(1 << 30)
        os.pwrite(opened.fileno(), b"x" * 65536, 512 << 20)
        os.fsync(opened.fileno())
        taken = os.fstat(opened.fileno()).st_blocks * 512
        expect(taken < 4 << 20, f"1 GiB with 64 KiB in it takes {taken} bytes")
        expect(os.pread(opened.fileno(), 4096, 100 << 20) == bytes(4096), "a hole is something else than zeros")
        data = os.lseek(opened.fileno(), 0, os.SEEK_DATA)
        expect(256 << 20 < data <= 512 << 20, f"data begin at {data}")
        hole = os.lseek(opened.fileno(), 512 << 20, os.SEEK_HOLE)
        expect((512 << 20) + 65536 <= hole < 768 << 20, f"the next hole begins at {hole}")


@case("punched", "fallocate(2): FALLOC_FL_PUNCH_HOLE")
def punched(stage: Stage) -> None:
    """Room in the middle of a file is given back, and reads as zeros."""
    file = stage.folder() / "file"
    with file.open("w+b") as opened:
        opened.write(b"x" * (4 << 20))
        opened.flush()
        os.fsync(opened.fileno())
        before = os.fstat(opened.fileno()).st_blocks
        syscalls.punch(opened.fileno(), 1 << 20, 2 << 20)
        os.fsync(opened.fileno())
        after = os.fstat(opened.fileno()).st_blocks
        expect((before - after) * 512 >= 1 << 20, f"of {before} blocks {after} are left")
        whole = os.pread(opened.fileno(), 4 << 20, 0)
    expect(whole == b"x" * (1 << 20) + bytes(2 << 20) + b"x" * (1 << 20), "the content is something else")


@case("far", "POSIX.1-2017, off_t; large files")
def far(stage: Stage) -> None:
    """Beyond 4 GiB a file is written and read as below."""
    file = stage.folder() / "file"
    with file.open("w+b") as opened:
        for place in (2**31 - 2, 2**32 - 2, 2**32 + 5):
            os.pwrite(opened.fileno(), b"far%d" % place, place)
            expect(os.pread(opened.fileno(), 20, place)[:13] == b"far%d" % place, f"at {place} is something else")


@case("synced", f"{_POSIX}, fsync(), fdatasync()")
def synced(stage: Stage) -> None:
    """Files, their content alone and directories are synchronised without an error."""
    folder = stage.folder()
    with (folder / "file").open("wb") as opened:
        opened.write(b"x" * 100_000)
        opened.flush()
        os.fdatasync(opened.fileno())
        os.fsync(opened.fileno())
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)
