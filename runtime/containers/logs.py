"""The log of a container, as conmon writes it: `TIME stdout|stderr F|P text`, P for a line that goes on."""

from __future__ import annotations

import datetime
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

STDOUT, STDERR = 1, 2
_STREAMS = {b"stdout": STDOUT, b"stderr": STDERR}
_PAUSE_S = 0.1


@dataclass(frozen=True)
class Line:
    """A piece of output: `at` in seconds since 1970."""

    at: float
    written: str
    stream: int
    text: bytes


@dataclass(frozen=True)
class Wanted:
    """Which lines. tail: of all, the last ones; None: every one."""

    streams: frozenset[int]
    since: float = 0.0
    until: float = float("inf")
    tail: int | None = None


def read(path: Path, wanted: Wanted, follows: Callable[[], bool]) -> Iterator[Line | None]:
    """Yield the lines, then new ones while `follows()`; None where nothing new came for a while."""
    try:
        log = path.open("rb")
    except FileNotFoundError:
        return
    with log:
        past = (line for line in _whole(log) if _fits(line, wanted))
        yield from past if wanted.tail is None else deque(past, wanted.tail)
        while True:
            # Asked first: what is written before the end is read once more after it.
            goes_on = follows()
            fresh = False
            for line in _whole(log):
                fresh = True
                if line.at > wanted.until:
                    return
                if _fits(line, wanted):
                    yield line
            if not goes_on:
                return
            if not fresh:
                yield None
                time.sleep(_PAUSE_S)


def _whole(log: IO[bytes]) -> Iterator[Line]:
    """Yield the lines up to the end; one that is being written is left for the next time."""
    while raw := log.readline():
        if not raw.endswith(b"\n"):
            log.seek(-len(raw), os.SEEK_CUR)
            return
        written, stream, kind, text = raw.split(b" ", 3)
        at = datetime.datetime.fromisoformat(written.decode()).timestamp()
        # The newline is conmon's, unless the line was whole.
        yield Line(at, written.decode().replace("+00:00", "Z"), _STREAMS[stream], text if kind == b"F" else text[:-1])


def _fits(line: Line, wanted: Wanted) -> bool:
    return line.stream in wanted.streams and wanted.since <= line.at <= wanted.until
