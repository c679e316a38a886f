"""The one path by which records change and by which the kernel follows them.

A *record* says what the engine told us; `plan` turns it into *resources*, the things wanted in the kernel, parents
first; a *kernel* ensures, removes and lists resources of one type. `transition` moves a record: intent first, then the
kernel, then commit. `reconcile` finishes or undoes what was interrupted, ensures what is recorded, and sweeps what
carries our name without being recorded. Both may be cut short at any step and simply run again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pluginkit import errors
from pluginkit.log import failure
from pluginkit.store import Kind, Row, Store

R = TypeVar("R")
log = logging.getLogger(__name__)


class Resource(Protocol):
    """A frozen value that says what one kernel object shall be like."""

    @property
    def key(self) -> tuple[str, ...]:
        """What identifies the kernel object, whatever its other properties are."""


class Kernel(Protocol):
    """All access to one kind of kernel object."""

    def ensure(self, want: Any) -> None:
        """The object exists and is as `want` says; nothing was done if it already was."""

    def remove(self, want: Any) -> None:
        """The object of that key does not exist; it is no error if it never did."""

    def owned(self) -> Iterable[Resource]:
        """Return every existing object that carries our name, as something that `remove` takes."""


@dataclass(frozen=True)
class Planned(Generic[R]):
    """A kind of record together with its meaning.

    plan: takes the record and its parent's record (None for a kind without parents); pure; parents first.
    """

    kind: Kind[R]
    plan: Callable[[R, Any], tuple[Resource, ...]]
    parent: Kind[Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """What one reconcile did. `failures` were logged and will be tried again by the next one."""

    undone: int
    swept: int
    failures: tuple[Exception, ...]


class Reconciler:
    """Moves records and the kernel together. Callers hold the locks; nothing here does.

    kinds: parents before children. kernels: resource type to kernel, in an order in which they can be created.
    """

    def __init__(self, store: Store, kinds: Sequence[Planned[Any]], kernels: Mapping[type[Any], Kernel]) -> None:
        self._store = store
        self._kinds = tuple(kinds)
        self._kernels = kernels

    def transition(self, planned: Planned[R], record_id: str, new: R | None, parent: str = "") -> None:
        """The record `record_id` is `new` (None: it is gone), and the kernel is as its plan says.

        On an error from `ensure` the record and the kernel are what they were before. On errors from removal everything
        else has been removed, and the move stays on record until a reconcile completes (deletion) or undoes it.

        Raises: whatever a kernel's ensure raised; ExceptionGroup of what kernels' remove raised.
        """
        row = self._store.get(planned.kind, record_id)
        if row is not None and row.pending:
            # An earlier move of this record failed half-way and nobody has reconciled since.
            self._settle(planned, row)
            row = self._store.get(planned.kind, record_id)
        if row is not None:
            parent = row.parent
        old = row.current if row else None
        if old is None and new is None:
            return
        parent_record = self._parent_record(planned, parent)
        before = planned.plan(old, parent_record) if old is not None else ()
        after = planned.plan(new, parent_record) if new is not None else ()
        self._store.intend(planned.kind, record_id, parent, new)
        try:
            for want in after:
                self._kernel(want).ensure(want)
        except Exception:
            self._undo(planned, record_id, before, after)
            raise
        kept = {want.key for want in after}
        failures = self._remove([have for have in before if have.key not in kept])
        if failures:
            raise ExceptionGroup(f"cannot take down all of {planned.kind.name} {record_id}", failures)
        self._store.commit(planned.kind, record_id)

    def reconcile(self) -> Outcome:
        """Every record is settled and in the kernel, and nothing else of ours is; failures are logged and returned.

        Raises: StateError: a record cannot be read; the kernel has not been touched.
        """
        rows = {planned.kind.name: self._store.rows(planned.kind) for planned in self._kinds}
        failures: list[Exception] = []
        # Looked at before anything is changed: kernels that remember what they did learn here what others undid.
        existing = self._existing(failures)
        undone = 0
        # Children first: what hangs on an unfinished parent must be gone before the parent is.
        for planned in reversed(self._kinds):
            for row in rows[planned.kind.name]:
                orphan = planned.parent is not None and self._store.get(planned.parent, row.parent) is None
                if row.pending or orphan:
                    undone += 1
                    with _collecting(failures):
                        self._settle(planned, row, orphan=orphan)
        wanted: set[tuple[str, ...]] = set()
        for planned in self._kinds:
            for row in self._store.rows(planned.kind):
                current, following = self._plans(planned, row)
                # A move that could not be settled still owns what it made: the sweep must not take it for garbage.
                wanted.update(want.key for want in (*current, *following))
                with _collecting(failures):
                    for want in current:
                        self._kernel(want).ensure(want)
        return Outcome(undone, self._sweep(existing, wanted, failures), tuple(failures))

    def _settle(self, planned: Planned[R], row: Row[R], *, orphan: bool = False) -> None:
        """An interrupted move is over: a deletion forward, anything else back. An orphan is dropped unplanned."""
        if orphan:
            # Without its parent it has no plan; what it had in the kernel is swept as nobody's.
            self._store.intend(planned.kind, row.id, row.parent, None)
            self._store.commit(planned.kind, row.id)
            return
        current, following = self._plans(planned, row)
        forward = row.next is None
        kept = set() if forward else {have.key for have in current}
        failures = self._remove([have for have in (current if forward else following) if have.key not in kept])
        if failures:
            raise ExceptionGroup(f"cannot settle {planned.kind.name} {row.id}", failures)
        if forward:
            self._store.commit(planned.kind, row.id)
        else:
            # What the move changed without removing is put right when `current` is ensured, after its parents.
            self._store.abandon(planned.kind, row.id)

    def _undo(
        self, planned: Planned[Any], record_id: str, before: Sequence[Resource], after: Sequence[Resource]
    ) -> None:
        """All is as `before` says and the move is forgotten; if that failed, it was logged and stays on record."""
        kept = {have.key for have in before}
        failures = self._remove([want for want in after if want.key not in kept])
        for have in before:
            with _collecting(failures):
                self._kernel(have).ensure(have)
        if not failures:
            self._store.abandon(planned.kind, record_id)

    def _remove(self, resources: Sequence[Resource]) -> list[Exception]:
        """Every resource was tried, children first; return what went wrong."""
        failures: list[Exception] = []
        for have in reversed(resources):
            with _collecting(failures):
                self._kernel(have).remove(have)
        return failures

    def _existing(self, failures: list[Exception]) -> list[tuple[Kernel, Resource]]:
        """Return what carries our name in the kernel, children first."""
        existing: list[tuple[Kernel, Resource]] = []
        for kernel in reversed(list(dict.fromkeys(self._kernels.values()))):
            with _collecting(failures):
                existing += [(kernel, have) for have in kernel.owned()]
        return existing

    def _sweep(
        self, existing: Sequence[tuple[Kernel, Resource]], wanted: set[tuple[str, ...]], failures: list[Exception]
    ) -> int:
        """What exists and nobody wants was removed; return how many objects that were."""
        swept = 0
        for kernel, have in existing:
            if have.key not in wanted:
                with _collecting(failures):
                    kernel.remove(have)
                    log.warning("swept %s: no record wants it", " ".join(have.key))
                    swept += 1
        return swept

    def _plans(self, planned: Planned[R], row: Row[R]) -> tuple[tuple[Resource, ...], tuple[Resource, ...]]:
        """Return what `row` wants in the kernel now, and what its unfinished move would."""
        parent_record = self._parent_record(planned, row.parent)
        current = planned.plan(row.current, parent_record) if row.current is not None else ()
        following = planned.plan(row.next, parent_record) if row.next is not None else ()
        return current, following

    def _parent_record(self, planned: Planned[Any], parent: str) -> Any:
        if planned.parent is None:
            return None
        row = self._store.get(planned.parent, parent)
        record = (row.current or row.next) if row else None
        if record is None:
            raise errors.NotFound(f"cannot plan {planned.kind.name}: its {planned.parent.name} {parent} is not known")
        return record

    def _kernel(self, resource: Resource) -> Kernel:
        return self._kernels[type(resource)]


@contextmanager
def _collecting(failures: list[Exception]) -> Iterator[None]:
    """An exception that left the block is logged and in `failures`."""
    try:
        yield
    except Exception as exc:  # noqa: BLE001 - logged, and the caller decides
        failure(log, exc)
        failures.append(exc)
