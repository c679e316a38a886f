"""A bar on a terminal, while something takes long."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar(Protocol):
    """How far something is."""

    def expect(self, size: int) -> None:
        """There are so many bytes more."""

    def advance(self, size: int) -> None:
        """So many of them more are done."""


@contextmanager
def shown(doing: str) -> Iterator[Bar]:
    """Inside the block there is a bar, if anybody is there to see it."""
    if not sys.stderr.isatty():
        yield _Unseen()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True), transient=True) as progress:
        yield _Drawn(progress, progress.add_task(doing, total=0))


class _Unseen:
    def expect(self, size: int) -> None:
        """Nothing is drawn."""

    def advance(self, size: int) -> None:
        """Nothing is drawn."""


class _Drawn:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._total = self._done = 0

    def expect(self, size: int) -> None:
        self._total += size
        self._progress.update(self._task, total=self._total)

    def advance(self, size: int) -> None:
        self._done = min(self._total, self._done + size)
        self._progress.update(self._task, completed=self._done)
