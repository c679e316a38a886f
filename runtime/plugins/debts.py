"""What plugins were not told because they did not answer, in the order in which they are to hear it."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import Any

from runtime.state import State

_STATE = "debt"


@dataclass(frozen=True)
class Debt:
    """One call that a plugin is owed."""

    key: str
    plugin: str
    capability: str
    method: str
    body: dict[str, Any]


class Debts:
    """The calls that are owed. They outlive the daemon. Threads may share it."""

    def __init__(self, state: State) -> None:
        self._state, self._turn = state, threading.Lock()
        self._debts = [Debt(key, **record) for key, record in state.all(_STATE).items()]

    def add(self, plugin: str, capability: str, method: str, body: dict[str, Any]) -> None:
        """The plugin is owed the call, after all others that it is owed."""
        with self._turn:
            number = int(self._debts[-1].key) + 1 if self._debts else 0
            debt = Debt(f"{number:012d}", plugin, capability, method, body)
            record = asdict(debt)
            self._state.put(_STATE, record.pop("key"), record)
            self._debts.append(debt)

    def of(self, plugin: str) -> list[Debt]:
        """Return what the plugin is owed, the oldest first."""
        with self._turn:
            return [debt for debt in self._debts if debt.plugin == plugin]

    def plugins(self) -> set[str]:
        """Return the names of those that are owed something."""
        with self._turn:
            return {debt.plugin for debt in self._debts}

    def settle(self, debt: Debt) -> None:
        """It is owed no more."""
        with self._turn:
            self._state.delete(_STATE, debt.key)
            self._debts.remove(debt)
