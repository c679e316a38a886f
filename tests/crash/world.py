"""A machine: a fake kernel, and a plugin's process over the real store, which can be killed and started again."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

from pluginkit.reconcile import Outcome, Planned, Resource
from pluginkit.store import Kind, Migration, Store, create_tables
from tests.crash.fake_kernel import FakeKernel, Key, Steps


class MortalStore(Store):
    """The real store, with a step before each write, one inside its transaction, and one after it."""

    def __init__(
        self,
        path: Path,
        kinds: Iterable[Kind[Any]],
        steps: Steps,
        migrations: Sequence[Migration] = (create_tables,),
    ) -> None:
        self._steps = steps
        super().__init__(path, tuple(kinds), migrations)

    @contextmanager
    def _transaction(self, durable: bool) -> Iterator[None]:
        self._steps.take(sqlite3.OperationalError("disk I/O error"))
        with super()._transaction(durable):
            yield
            self._steps.take(sqlite3.OperationalError("database or disk is full"))
        # Once it is committed a write cannot fail any more, it can only be the last thing that this process did.
        self._steps.take(None)


class World(ABC):
    """One machine with one plugin. Lives in a directory of its own; a subclass says which plugin."""

    planned: ClassVar[tuple[Planned[Any], ...]]
    migrations: ClassVar[Sequence[Migration]] = (create_tables,)

    def __init__(self, root: Path) -> None:
        self._boot(root)
        self._start()

    @property
    def kinds(self) -> tuple[Kind[Any], ...]:
        """Every kind of record in the state file, planned or not."""
        return tuple(planned.kind for planned in self.planned)

    @abstractmethod
    def make_kernel(self) -> FakeKernel:
        """Return an empty kernel in which `self.steps` are counted."""

    @abstractmethod
    def assemble(self) -> None:
        """The plugin is put together over `self.store` and `self.kernel`, and has not reconciled yet."""

    @abstractmethod
    def reconcile(self) -> Outcome:
        """The machine has been reconciled."""

    def outlives_the_process(self, resource: Resource) -> bool:
        """Tell whether `resource` is still there when the plugin is not."""
        return True

    def stays_when_removed(self, resource: Resource) -> bool:
        """Tell whether nothing is done to remove `resource`, so that any number of them may be left."""
        return False

    def _boot(self, root: Path) -> None:
        self._root = root
        self._directory = Path(tempfile.mkdtemp(dir=root))
        self.steps = Steps()
        self.kernel = self.make_kernel()

    def _start(self) -> None:
        self.store = MortalStore(self._directory / "state.db", self.kinds, self.steps, self.migrations)
        self.assemble()
        self.steps.disarm()

    def clone(self) -> Self:
        """Return another machine in the same state, its process started anew: as after `kill -9` here and now.

        The files are copied as they lie, the write-ahead log not folded in, as a killed process leaves them.
        """
        other = type(self).__new__(type(self))
        other._boot(self._root)
        shutil.copytree(self._directory, other._directory, dirs_exist_ok=True)
        other.kernel.objects = {
            key: have for key, have in self.kernel.objects.items() if self.outlives_the_process(have)
        }
        other._start()
        return other

    def reboot(self) -> None:
        """The machine was rebooted: an empty kernel, another boot id, the process started anew."""
        self.store.close()
        with sqlite3.connect(self._directory / "state.db") as connection:
            connection.execute("UPDATE fact SET value = 'an earlier boot'")
        connection.close()
        self.kernel.objects.clear()
        self._start()

    def close(self) -> None:
        """The process is gone, and so is its directory."""
        self.store.close()
        shutil.rmtree(self._directory)

    def records(self) -> dict[tuple[str, str], Any]:
        """Return the committed records by kind and id."""
        return {
            (planned.kind.name, row.id): row.current
            for planned in self.planned
            for row in self.store.rows(planned.kind)
            if row.current is not None
        }

    def pending(self) -> list[str]:
        """Return the ids of the records with an unfinished move."""
        return [row.id for planned in self.planned for row in self.store.rows(planned.kind) if row.pending]

    def wanted(self) -> dict[Key, Resource]:
        """Return what the committed records mean, computed here and not by the code under test."""
        records = self.records()
        wanted = [
            want
            for planned in self.planned
            for row in self.store.rows(planned.kind)
            if row.current is not None
            for want in planned.plan(row.current, records[planned.parent.name, row.parent] if planned.parent else None)
        ]
        return {want.key: want for want in wanted}

    def is_settled(self) -> None:
        """Assert that nothing is pending and that the kernel is what the records mean: no less, and no more."""
        assert self.pending() == []
        wanted = self.wanted()
        left = {key: have for key, have in self.kernel.objects.items() if self.stays_when_removed(have)}
        assert self.kernel.objects == left | wanted

    def settles(self) -> None:
        """Assert that one reconcile settles everything, and that another then finds nothing to do."""
        self.steps.disarm()
        assert self.reconcile().failures == ()
        self.is_settled()
        self.kernel.changes = 0
        assert self.reconcile() == Outcome(undone=0, swept=0, failures=())
        assert self.kernel.changes == 0
