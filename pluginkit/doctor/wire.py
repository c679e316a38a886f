"""What a doctor is told of every plugin by its socket for administrators."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pluginkit.errors import describe

if TYPE_CHECKING:
    from pluginkit.reconcile import Outcome


@dataclass(frozen=True)
class ReconcileAnswer:
    """Service.Reconcile, and what the last one did. Failures: what could not be put right, and is tried again."""

    At: datetime
    Undone: int
    Swept: int
    Failures: tuple[str, ...]


def just_reconciled(outcome: Outcome) -> ReconcileAnswer:
    """Return what is told of a reconcile that has just ended."""
    return ReconcileAnswer(datetime.now(UTC), outcome.undone, outcome.swept, tuple(map(describe, outcome.failures)))
