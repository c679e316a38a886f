"""What came of a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from pluginkit.conform.case import Failed, NotOffered

Outcome = Literal["passed", "failed", "not run"]


class Described(Protocol):
    """A case. source: the clause that asks for it, or whose users ran into it; says: what must hold."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def area(self) -> str:
        """What it is about."""

    @property
    def source(self) -> str:
        """Where it is written."""

    @property
    def says(self) -> str:
        """What must hold."""


@dataclass(frozen=True)
class Verdict:
    """What came of a case. version: of IP, if it was played in each; why: of one that has not passed."""

    driver: str
    case: Described
    version: int | None
    outcome: Outcome
    why: str
    seconds: float


def judge(run: Callable[[], None]) -> tuple[Outcome, str]:
    """Return what came of it, and why if it has not passed."""
    try:
        run()
    except NotOffered as exc:
        return "not run", str(exc)
    except Failed as exc:
        return "failed", str(exc)
    except Exception as exc:  # noqa: BLE001 - what a driver does is a row of the table, not the end of the run
        return "failed", f"{type(exc).__name__}: {exc}"
    return "passed", ""
