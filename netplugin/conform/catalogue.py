"""All cases, area by area."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from types import ModuleType

from netplugin.conform.case import Case
from netplugin.conform.cases import arp, fragments, icmp, isolation, many, nat, nd, published, spoofing, tcp
from pluginkit.errors import NotFound

_MODULES: tuple[ModuleType, ...] = (arp, nd, icmp, fragments, nat, published, tcp, isolation, spoofing, many)

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
