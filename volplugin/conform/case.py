"""A case: something that is done to volumes, where that is written, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pluginkit.conform.catalogue import must_hold

if TYPE_CHECKING:
    from volplugin.conform.stage import Stage


@dataclass(frozen=True)
class Case:
    """One case. source: the clause that asks for it, or whose users ran into it."""

    id: str
    area: str
    source: str
    says: str
    run: Callable[[Stage], None]


@dataclass(frozen=True)
class Area:
    """What a module's cases are about; calling it makes a case of a function, whose docstring is what must hold."""

    name: str

    def __call__(self, ident: str, source: str) -> Callable[[Callable[[Stage], None]], Case]:
        """Return what makes a case of the function below."""

        def made(run: Callable[[Stage], None]) -> Case:
            return Case(ident, self.name, source, must_hold(run), run)

        return made
