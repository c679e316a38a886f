"""All cases, area by area, and what comes of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from types import ModuleType

from pluginkit.conform.verdict import Verdict, judge
from pluginkit.errors import NotFound
from volplugin.conform.case import Case
from volplugin.conform.cases import content, engine, files, full, keeping, sharing
from volplugin.conform.stage import Stage

_MODULES: tuple[ModuleType, ...] = (engine, keeping, sharing, files, content, full)

CASES: tuple[Case, ...] = tuple(case for module in _MODULES for case in vars(module).values() if isinstance(case, Case))


def chosen(patterns: Iterable[str]) -> tuple[Case, ...]:
    """Return the cases whose name is like one of the patterns, in their own order.

    Raises: NotFound: a pattern is like none.
    """
    wanted = tuple(patterns)
    for pattern in wanted:
        if not any(fnmatchcase(case.id, pattern) for case in CASES):
            raise NotFound(f"cannot play {pattern}: there is no such case; docs/conformance.md lists them")
    return tuple(case for case in CASES if any(fnmatchcase(case.id, pattern) for pattern in wanted))


def play(stage: Stage, cases: Sequence[Case]) -> Iterator[Verdict]:
    """Yield what comes of each case."""
    for case in cases:
        began = time.monotonic()
        outcome, why = judge(lambda: case.run(stage))  # noqa: B023 - it is called at once
        yield Verdict(stage.driver, case, None, outcome, why, time.monotonic() - began)
        stage.tidy()
