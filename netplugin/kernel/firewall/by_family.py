"""Rules of both families, each by a module of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from netplugin.resources import Family
from pluginkit.reconcile import Kernel, Resource


class ByFamily:
    """Hands each resource to the module of its family."""

    def __init__(self, modules: Mapping[Family, Kernel]) -> None:
        self._modules = modules

    def ensure(self, want: Any) -> None:
        """The resource is in place."""
        self._modules[want.family].ensure(want)

    def remove(self, want: Any) -> None:
        """Nothing of the resource's owner is left in its family."""
        self._modules[want.family].remove(want)

    def owned(self) -> Iterable[Resource]:
        """Return what each family's module finds."""
        return [have for module in self._modules.values() for have in module.owned()]
