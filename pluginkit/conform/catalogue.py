"""How cases are found in modules, and chosen by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any, TypeVar

from pluginkit.conform.verdict import Described
from pluginkit.errors import NotFound

C = TypeVar("C", bound=Described)


def collected(modules: Iterable[ModuleType], kind: type[C]) -> tuple[C, ...]:
    """Return all cases that stand in the modules, in their order."""
    return tuple(case for module in modules for case in vars(module).values() if isinstance(case, kind))


def chosen(cases: Sequence[C], patterns: Iterable[str]) -> tuple[C, ...]:
    """Return the cases whose name is like one of the patterns, in their own order.

    Raises: NotFound: a pattern is like none.
    """
    wanted = tuple(patterns)
    for pattern in wanted:
        if not any(fnmatchcase(case.id, pattern) for case in cases):
            raise NotFound(f"cannot play {pattern}: there is no such case; docs/conformance.md lists them")
    return tuple(case for case in cases if any(fnmatchcase(case.id, pattern) for pattern in wanted))


def must_hold(run: Callable[..., Any]) -> str:
    """Return, in one line, what the function of a case says must hold."""
    return " ".join((inspect.getdoc(run) or "").split())
