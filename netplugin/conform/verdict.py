"""Cases played on a stage, and what came of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from netplugin.conform.case import VERSIONS, Case, Failed, NotOffered, Version
from netplugin.conform.stage import Stage
from netplugin.conform.view import View

Outcome = Literal["passed", "failed", "not run"]


@dataclass(frozen=True)
class Verdict:
    """What came of a case. why: of one that has not passed."""

    driver: str
    case: Case
    version: Version
    outcome: Outcome
    why: str
    seconds: float


def play(stage: Stage, cases: Sequence[Case]) -> Iterator[Verdict]:
    """Yield what comes of each case, in each of its IP versions."""
    views = {version: View(stage, version) for version in VERSIONS}
    for case in cases:
        for version in case.versions:
            began = time.monotonic()
            outcome, why = _played(stage, case, views[version])
            yield Verdict(stage.driver, case, version, outcome, why, time.monotonic() - began)


def _played(stage: Stage, case: Case, view: View) -> tuple[Outcome, str]:
    if missing := case.needs - stage.offers:
        return "not run", f"{stage.driver} has no {', '.join(sorted(missing))}"
    if stage.kind not in case.kinds:
        return "not run", f"it is for {', '.join(case.kinds)}"
    try:
        case.run(view)
    except NotOffered as exc:
        return "not run", str(exc)
    except Failed as exc:
        return "failed", str(exc)
    except Exception as exc:  # noqa: BLE001 - what a driver does is a row of the table, not the end of the run
        return "failed", f"{type(exc).__name__}: {exc}"
    return "passed", ""
