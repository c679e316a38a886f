"""Rules of the families that this kernel has, each by a module of its own."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from netplugin.resources import Family
from pluginkit.errors import KernelError
from pluginkit.reconcile import Foreseeing, Kernel, Resource


class ByFamily:
    """Hands each resource to the module of its family."""

    def __init__(self, modules: Mapping[Family, Kernel]) -> None:
        self._modules = modules

    def ensure(self, want: Any) -> None:
        """The resource is in place.

        Raises: KernelError: this kernel lacks the family.
        """
        if want.family not in self._modules:
            raise KernelError(
                "write rules of", want.family, errno.EAFNOSUPPORT, "create the network without that family"
            )
        self._modules[want.family].ensure(want)

    def foresee(self, wants: Sequence[Any]) -> None:
        """The modules that are quicker with many at once know what will be ensured."""
        for family, module in self._modules.items():
            if isinstance(module, Foreseeing):
                module.foresee([want for want in wants if want.family == family])

    def remove(self, want: Any) -> None:
        """Nothing of the resource's owner is left in its family."""
        if want.family in self._modules:
            self._modules[want.family].remove(want)

    def owned(self) -> Iterable[Resource]:
        """Return what each family's module finds."""
        return [have for module in self._modules.values() for have in module.owned()]
