"""All cases, area by area, and what comes of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from pluginkit.conform.catalogue import collected
from pluginkit.conform.verdict import Verdict, judge
from volplugin.conform.case import Case
from volplugin.conform.cases import content, engine, files, full, keeping, sharing
from volplugin.conform.stage import Stage

CASES = collected((engine, keeping, sharing, files, content, full), Case)


def play(stage: Stage, cases: Sequence[Case]) -> Iterator[Verdict]:
    """Yield what comes of each case."""
    for case in cases:
        began = time.monotonic()
        outcome, why = judge(lambda: case.run(stage))  # noqa: B023 - it is called at once
        yield Verdict(stage.driver, case, None, outcome, why, time.monotonic() - began)
        stage.tidy()
