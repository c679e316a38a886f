"""Cases played on a stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from netplugin.conform.case import VERSIONS, Case
from netplugin.conform.stage import Stage
from netplugin.conform.view import View
from pluginkit.conform.case import NotOffered
from pluginkit.conform.verdict import Verdict, judge


def play(stage: Stage, cases: Sequence[Case]) -> Iterator[Verdict]:
    """Yield what comes of each case, in each of its IP versions."""
    views = {version: View(stage, version) for version in VERSIONS}
    for case in cases:
        for version in case.versions:
            began = time.monotonic()
            outcome, why = judge(lambda: _play(stage, case, views[version]))  # noqa: B023 - it is called at once
            yield Verdict(stage.driver, case, version, outcome, why, time.monotonic() - began)


def _play(stage: Stage, case: Case, view: View) -> None:
    if missing := case.needs - stage.offers:
        raise NotOffered(f"{stage.driver} has no {', '.join(sorted(missing))}")
    if stage.kind not in case.kinds:
        raise NotOffered(f"it is for {', '.join(case.kinds)}")
    case.run(view)
