"""All cases, area by area."""

from __future__ import annotations

from types import ModuleType

from netplugin.conform.case import Case
from netplugin.conform.cases import arp, fragments, icmp, isolation, many, nat, nd, published, spoofing, tcp

_MODULES: tuple[ModuleType, ...] = (arp, nd, icmp, fragments, nat, published, tcp, isolation, spoofing, many)

CASES: tuple[Case, ...] = tuple(case for module in _MODULES for case in vars(module).values() if isinstance(case, Case))
