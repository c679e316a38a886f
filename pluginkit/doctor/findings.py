"""What is wrong on a host, with cause and cure, and how it is told. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["fault", "warning", "note"]
_WORST_FIRST = ("fault", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing. note: it may be meant so. fix: what puts it right, where that takes nothing from anybody; "": nothing.

    subject: what `fix` is done to, if that is one thing.
    """

    level: Level
    what: str
    cure: str
    fix: str = ""
    subject: str = ""


def worst_first(found: Iterable[Finding]) -> list[Finding]:
    """Return them in the order in which they are told."""
    return sorted(found, key=lambda finding: _WORST_FIRST.index(finding.level))


def told(found: Iterable[Finding]) -> str:
    """Return each finding with its cure below it."""
    return "\n".join(f"{each.level}: {each.what}\n    {each.cure}" for each in found)
