"""A case: something that is done to a network with packets, where that is written, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pluginkit.conform.catalogue import must_hold

if TYPE_CHECKING:
    from netplugin.conform.view import View

Kind = Literal["bridge", "overlay"]
KINDS: tuple[Kind, ...] = ("bridge", "overlay")
Version = Literal[4, 6]
VERSIONS: tuple[Version, ...] = (4, 6)


@dataclass(frozen=True)
class Case:
    """One case. source: the clause that asks for it, or whose users ran into it. needs: what not every stage can do."""

    id: str
    area: str
    source: str
    says: str
    versions: tuple[Version, ...]
    kinds: tuple[Kind, ...]
    needs: frozenset[str]
    run: Callable[[View], None]


@dataclass(frozen=True)
class Area:
    """What a module's cases are about; calling it makes a case of a function, whose docstring is what must hold."""

    name: str

    def __call__(
        self,
        ident: str,
        source: str,
        *,
        versions: tuple[Version, ...] = VERSIONS,
        kinds: tuple[Kind, ...] = KINDS,
        needs: tuple[str, ...] = (),
    ) -> Callable[[Callable[[View], None]], Case]:
        """Return what makes a case of the function below."""

        def made(run: Callable[[View], None]) -> Case:
            return Case(ident, self.name, source, must_hold(run), versions, kinds, frozenset(needs), run)

        return made
