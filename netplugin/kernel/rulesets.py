"""Rulesets of both families, each by its own program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netplugin.kernel.iptables import Iptables
from netplugin.resources import Family, Ruleset


class Rulesets:
    """Hands each ruleset to the backend of its family."""

    def __init__(self, backends: Mapping[Family, Iptables]) -> None:
        self._backends = backends

    def ensure(self, want: Ruleset) -> None:
        """The ruleset is in place."""
        self._backends[want.family].ensure(want)

    def remove(self, want: Ruleset) -> None:
        """Nothing of the ruleset's owner is left in its family."""
        self._backends[want.family].remove(want)

    def owned(self) -> Iterable[Ruleset]:
        """Return an empty ruleset for each owner in each family."""
        return [ruleset for backend in self._backends.values() for ruleset in backend.owned()]
