"""Long work that goes on without the locks of what it is about, and what has to wait for its end.

Nothing of it is recorded: each is a move on record as well, which the next start settles if we die in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pluginkit.errors import Conflict


@dataclass(frozen=True)
class Work:
    """What goes on, in words; the IDs of the records that it moves, and of those that must not change meanwhile."""

    what: str
    moves: frozenset[str]
    needs: frozenset[str]


class Underway:
    """The long work of one process. Callers hold the locks of what they name."""

    def __init__(self) -> None:
        self._works: list[Work] = []

    @contextmanager
    def doing(self, what: str, moves: Collection[str] = (), needs: Collection[str] = ()) -> Iterator[None]:
        """Inside the block others are told of it and refused what does not go together with it."""
        work = Work(what, frozenset(moves), frozenset(needs))
        self._works.append(work)
        try:
            yield
        finally:
            self._works.remove(work)

    def check_idle(self, operation: str, *ids: str) -> None:
        """Raises: Conflict: one of the records must stay as it is for now."""
        self._check(operation, ids, [(work, work.moves | work.needs) for work in tuple(self._works)])

    def check_unmoved(self, operation: str, *ids: str) -> None:
        """Raises: Conflict: one of the records is being moved; that its content is read does no harm."""
        self._check(operation, ids, [(work, work.moves) for work in tuple(self._works)])

    def describe(self, record_id: str) -> str:
        """Return what goes on with the record, in words, or ""."""
        return "; ".join(work.what for work in tuple(self._works) if record_id in work.moves | work.needs)

    def ids(self) -> frozenset[str]:
        """Return the records that reconcile has to leave alone."""
        return frozenset().union(*(work.moves | work.needs for work in tuple(self._works)))

    def _check(self, operation: str, ids: Collection[str], works: list[tuple[Work, frozenset[str]]]) -> None:
        for work, taken in works:
            for record_id in ids:
                if record_id in taken:
                    raise Conflict(f"cannot {operation} {record_id}: {work.what}; try again when that is done")
