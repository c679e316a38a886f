"""`pyvol conform`: the cases, played on volumes of any driver of an engine on this host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from pluginkit.cli import Json, told_in_one_line
from pluginkit.conform.cli import DEFAULT_ENGINE, Engine, Html, JUnit, side_by_side

if TYPE_CHECKING:
    from pluginkit.conform.verdict import Verdict


def conform(
    driver: Annotated[list[str], typer.Option(help="Volume driver to try; repeatable: side by side.")],
    engine: Engine = DEFAULT_ENGINE,
    case: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Only cases of such a name, as full-*; repeatable.")
    ] = None,
    size_option: Annotated[str, typer.Option(help="What -o calls a volume's size with these drivers.")] = "size",
    restart: Annotated[
        str,
        typer.Option(metavar="COMMAND", help="How the engine starts again; without it, it does not."),
    ] = "",
    seed: Annotated[int, typer.Option(help="Of what is random.")] = 1,
    junit: JUnit = None,
    html: Html = None,
    json: Json = False,
) -> None:
    """Use volumes of a driver's as containers do and tell what becomes of them; exit code 1 if a case has failed.

    Makes volumes and containers meanwhile, all of which are gone afterwards.
    """
    with told_in_one_line("pyvol"):
        from pluginkit.conform.catalogue import chosen
        from volplugin.conform.catalogue import CASES, play
        from volplugin.conform.stage import Stage

        cases = chosen(CASES, case or ["*"])

        def played(name: str) -> Iterator[Verdict]:
            with closing(Stage(engine, name, size_option=size_option, restart=restart, seed=seed)) as stage:
                yield from play(stage, cases)

        side_by_side("Volume conformance", engine, driver, played, junit=junit, html=html, json=json)
