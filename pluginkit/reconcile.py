"""The one path by which records change and by which the kernel follows them.

A *record* says what the engine told us; `plan` turns it into *resources*, the things wanted in the kernel, parents
first; a *kernel* ensures, removes and lists resources of one type. `transition` moves a record: intent first, then the
kernel, then commit. `reconcile` finishes or undoes what was interrupted, ensures what is recorded, and sweeps what
carries our name without being recorded. Both may be cut short at any step and simply run again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from pluginkit import errors
from pluginkit.log import failure
from pluginkit.store import Kind, Row, Store

R = TypeVar("R")
# Kind and ID of a record that has no parent.
_Root = tuple[str, str]
# What is entered around long work: there the caller may give up its locks.
Aside = Callable[[], AbstractContextManager[None]]
# Told of a move that was committed: kind of record, its ID, its parent's, before, after; None: there is none.
Moved = Callable[[str, str, str, Any, Any], None]
log = logging.getLogger(__name__)


def untold(*_: Any) -> None:
    """Nobody is told of moves."""


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


@runtime_checkable
class Foreseeing(Protocol):
    """A kernel to which many objects at once are cheaper than one after the other."""

    def foresee(self, wants: Sequence[Any]) -> None:
        """Each of these is going to be ensured; some may be already. What fails now will be tried, and told, then."""


class Turns(Protocol):
    """How reconcile keeps those away who move records."""

    def one(self, kind: str, record_id: str) -> AbstractContextManager[Collection[str]]:
        """Inside the block nobody else moves the record, which has no parent, nor any whose parent it is.

        But for those whose IDs are given: they are left alone.
        """

    def everything(self) -> AbstractContextManager[None]:
        """Inside the block nobody else moves any record."""


class _Alone:
    """Nobody has to be kept away: whoever reconciles holds all locks."""

    def one(self, _kind: str, _record_id: str) -> AbstractContextManager[Collection[str]]:
        return nullcontext(())

    def everything(self) -> AbstractContextManager[None]:
        return nullcontext()


_ALONE = _Alone()


@dataclass(frozen=True)
class Planned(Generic[R]):
    """A kind of record together with its meaning.

    plan: takes the record and its parent's record (None for a kind without parents); pure; parents first.
    parent: a kind that has none itself.
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


@dataclass(frozen=True)
class _Case(Generic[R]):
    """A record, what it wants in the kernel now, and what its unfinished move would.

    ends: settling it leaves nothing of it, because its creation or deletion was interrupted, or its parent's was.
    """

    planned: Planned[R]
    row: Row[R]
    current: tuple[Resource, ...]
    following: tuple[Resource, ...]
    ends: bool


class Reconciler:
    """Moves records and the kernel together. Callers hold the locks; nothing here does.

    kinds: parents before children. kernels: resource type to kernel, in an order in which they can be created.
    """

    def __init__(
        self,
        store: Store,
        kinds: Sequence[Planned[Any]],
        kernels: Mapping[type[Any], Kernel],
        moved: Moved = untold,
    ) -> None:
        self._store, self._kinds = store, tuple(kinds)
        self._kernels, self._moved = kernels, moved

    def transition(
        self, planned: Planned[R], record_id: str, new: R | None, parent: str = "", aside: Aside = nullcontext
    ) -> None:
        """The record `record_id` is `new` (None: it is gone), and the kernel is as its plan says.

        On an error from `ensure` the record and the kernel are what they were before. On errors from removal everything
        else has been removed, and the move stays on record until a reconcile completes (deletion) or undoes it.

        aside: entered while the kernel ensures what is new; nobody else may move this record then, nor reconcile it.

        Raises: whatever a kernel's ensure raised; ExceptionGroup of what kernels' remove raised.
        """
        row = self._store.get(planned.kind, record_id)
        if row is not None and row.pending:
            # An earlier move of this record failed half-way and nobody has reconciled since.
            above = self._store.get(planned.parent, row.parent) if planned.parent is not None else None
            self._settle(self._case(planned, row, above))
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
            with aside():
                self._ensure(after)
        except Exception:
            self._undo(planned, record_id, before, after)
            raise
        failures = self._remove(_without(before, after))
        if failures:
            raise ExceptionGroup(f"cannot take down all of {planned.kind.name} {record_id}", failures)
        self._store.commit(planned.kind, record_id)
        self._moved(planned.kind.name, record_id, parent, old, new)

    def reconcile(self, turns: Turns = _ALONE) -> Outcome:
        """Every record is settled and in the kernel, and nothing else of ours is; failures are logged and returned.

        turns: keeps others away from one record without a parent, and its children, at a time; else the caller does.

        Raises: StateError: a record cannot be read; the kernel has not been touched.
        """
        cases = self._cases()
        failures: list[Exception] = []
        # Before anything is made: what nobody wants may hold what somebody needs.
        swept = self._swept(cases, turns, failures)
        # As it was a moment ago; each is looked at again in its turn. Those that end go first, for the same reason.
        families: dict[_Root, list[_Case[Any]]] = {}
        for case in cases:
            families.setdefault(_root(case), []).append(case)
        ending = dict.fromkeys(_root(case) for case in reversed(cases) if case.ends)
        undone = sum(self._settle_family(root, families[root], turns, failures, ending=True) for root in ending)
        self._foresee(cases)
        undone += sum(self._settle_family(*family, turns, failures, ending=False) for family in families.items())
        return Outcome(undone, swept, tuple(failures))

    def _foresee(self, cases: Sequence[_Case[Any]]) -> None:
        """Whoever is quicker with many at once knows what settled records want."""
        settled = [want for case in cases if not (case.row.pending or case.ends) for want in case.current]
        for kernel in dict.fromkeys(self._kernels.values()):
            if isinstance(kernel, Foreseeing):
                kernel.foresee([want for want in settled if self._kernel(want) is kernel])

    def _swept(self, cases: Sequence[_Case[Any]], turns: Turns, failures: list[Exception]) -> int:
        """What exists and no record speaks of was removed; return how many objects that were.

        What any record speaks of is dealt with by its record, settled or not: the sweep is for the rest.
        """
        # Looked at before anything is changed: kernels that remember what they did learn here what others undid.
        existing = self._existing(self._kernels.values(), failures)
        # Everybody waits only if there is something to sweep, and not merely something that came since the records were
        # read: a record comes before its objects, so it is there by now.
        if _unknown(existing, cases) and _unknown(existing, self._cases()):
            with _collecting(failures), turns.everything():
                return self._sweep(_unknown(existing, self._cases()), failures)
        return 0

    def _settle_family(
        self, root: _Root, known: Sequence[_Case[Any]], turns: Turns, failures: list[Exception], *, ending: bool
    ) -> int:
        """What ends of the record and its children has, or what does not is settled and in the kernel.

        known: what they wanted a moment ago. Return how many of them had an unfinished move.
        """
        undone = 0
        with _collecting(failures), turns.one(*root) as leave:
            # Without turns nobody moves them meanwhile, and there may be thousands.
            cases = [case for case in (known if turns is _ALONE else self._family(*root)) if case.ends == ending]
            # Children first: what hangs on a parent that ends must be gone before it.
            for case in reversed(cases) if ending else cases:
                if case.row.id not in leave:
                    undone += ending or case.row.pending
                    with _collecting(failures):
                        if ending or case.row.pending:
                            self._settle(case)
                        else:
                            self._ensure(case.current)
        return undone

    def repair(self, types: Collection[type[Any]]) -> None:
        """What settled records want of these types is in the kernel, and nothing else of ours is; failures are logged.

        The part of a reconcile that is soon done, for what others have just changed.

        Raises: StateError: a record cannot be read; the kernel has not been touched.
        """
        cases = self._cases()
        failures: list[Exception] = []
        self._sweep(_unknown(self._existing([self._kernels[one] for one in types], failures), cases), failures)
        for case in cases:
            if not case.row.pending and not case.ends:
                with _collecting(failures):
                    self._ensure([want for want in case.current if type(want) in types])

    def _cases(self) -> list[_Case[Any]]:
        """Return what every record wants, parents first. Raises: StateError."""
        rows = {planned.kind.name: self._store.rows(planned.kind) for planned in self._kinds}
        by_id = {name: {row.id: row for row in found} for name, found in rows.items()}
        return [
            self._case(planned, row, by_id[planned.parent.name].get(row.parent) if planned.parent else None)
            for planned in self._kinds
            for row in rows[planned.kind.name]
        ]

    def _family(self, kind: str, record_id: str) -> list[_Case[Any]]:
        """Return what the record and its children want, the record first, if there is one. Raises: StateError."""
        found: list[_Case[Any]] = []
        parent: Row[Any] | None = None
        for planned in self._kinds:
            if planned.kind.name == kind:
                parent = self._store.get(planned.kind, record_id)
                found += [self._case(planned, parent, None)] if parent is not None else []
            elif planned.parent is not None and planned.parent.name == kind:
                found += [self._case(planned, row, parent) for row in self._store.rows(planned.kind, record_id)]
        return found

    def _case(self, planned: Planned[R], row: Row[R], parent: Row[Any] | None) -> _Case[R]:
        if planned.parent and parent is None:
            # Without its parent it has no plan; what it had in the kernel is swept as nobody's.
            return _Case(planned, row, (), (), ends=True)
        parent_record = (parent.current or parent.next) if parent else None
        current = planned.plan(row.current, parent_record) if row.current is not None else ()
        following = planned.plan(row.next, parent_record) if row.next is not None else ()
        return _Case(planned, row, current, following, ends=any(one.is_ending for one in (row, parent) if one))

    def _settle(self, case: _Case[Any]) -> None:
        """An interrupted move is over: a deletion forward, anything else back.

        Raises: ExceptionGroup: something could not be put right; the move stays on record.
        """
        planned, row = case.planned, case.row
        failures = self._end(case) if case.ends else self._undo(planned, row.id, case.current, case.following)
        if failures:
            raise ExceptionGroup(f"cannot settle {planned.kind.name} {row.id}", failures)

    def _end(self, case: _Case[Any]) -> list[Exception]:
        """Nothing is left of a record, nor of what it wanted in the kernel; return what went wrong instead."""
        planned, row = case.planned, case.row
        failures = self._remove(_without(case.following, case.current))
        failures += self._remove(case.current)
        if failures:
            return failures
        if row.current is None:
            self._store.abandon(planned.kind, row.id)
        else:
            self._store.intend(planned.kind, row.id, row.parent, None)
            self._store.commit(planned.kind, row.id)
            self._moved(planned.kind.name, row.id, row.parent, row.current, None)
        return []

    def _undo(
        self, planned: Planned[Any], record_id: str, before: Sequence[Resource], after: Sequence[Resource]
    ) -> list[Exception]:
        """All is as `before` says and the move is forgotten; return what went wrong instead: then it stays on record.

        In the same order as forward: what stays may be in the way of removing what goes, until it is as it was.
        """
        failures: list[Exception] = []
        for have in before:
            with _collecting(failures):
                self._kernel(have).ensure(have)
        failures += self._remove(_without(after, before))
        if not failures:
            self._store.abandon(planned.kind, record_id)
        return failures

    def _ensure(self, resources: Sequence[Resource]) -> None:
        for want in resources:
            self._kernel(want).ensure(want)

    def _remove(self, resources: Sequence[Resource]) -> list[Exception]:
        """Every resource was tried, children first; return what went wrong."""
        failures: list[Exception] = []
        for have in reversed(resources):
            with _collecting(failures):
                self._kernel(have).remove(have)
        return failures

    def _existing(self, kernels: Iterable[Kernel], failures: list[Exception]) -> list[tuple[Kernel, Resource]]:
        """Return what carries our name in these parts of the kernel, children first."""
        existing: list[tuple[Kernel, Resource]] = []
        for kernel in reversed(list(dict.fromkeys(kernels))):
            with _collecting(failures):
                existing += [(kernel, have) for have in kernel.owned()]
        return existing

    def _sweep(self, unknown: Iterable[tuple[Kernel, Resource]], failures: list[Exception]) -> int:
        """These were removed; return how many objects that were."""
        swept = 0
        for kernel, have in unknown:
            with _collecting(failures):
                kernel.remove(have)
                log.warning("swept %s: no record wants it", " ".join(have.key))
                swept += 1
        return swept

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


def _root(case: _Case[Any]) -> _Root:
    """Return what names the record if it has no parent, or its parent."""
    planned, row = case.planned, case.row
    return (planned.parent.name, row.parent) if planned.parent is not None else (planned.kind.name, row.id)


def _unknown(existing: Iterable[tuple[Kernel, Resource]], cases: Iterable[_Case[Any]]) -> list[tuple[Kernel, Resource]]:
    """Return what exists and no record speaks of, settled or not."""
    known = {want.key for case in cases for want in (*case.current, *case.following)}
    return [(kernel, have) for kernel, have in existing if have.key not in known]


def _without(resources: Sequence[Resource], others: Sequence[Resource]) -> list[Resource]:
    keys = {other.key for other in others}
    return [resource for resource in resources if resource.key not in keys]


@contextmanager
def _collecting(failures: list[Exception]) -> Iterator[None]:
    """An exception that left the block is logged and in `failures`."""
    try:
        yield
    except Exception as exc:  # noqa: BLE001 - logged, and the caller decides
        failure(log, exc)
        failures.append(exc)
