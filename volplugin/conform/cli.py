"""`pyvol conform`: the cases, played on volumes of any driver of an engine on this host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pluginkit.cli import told_in_one_line


def conform(
    driver: Annotated[list[str], typer.Option(help="Volume driver to try; repeatable: side by side.")],
    engine: Annotated[Path, typer.Option(help="Socket of the engine, which runs on this host.")] = Path(
        "/run/docker.sock"
    ),
    case: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Only cases of such a name, as full-*; repeatable.")
    ] = None,
    size_option: Annotated[str, typer.Option(help="What -o calls a volume's size with these drivers.")] = "size",
    restart: Annotated[
        str,
        typer.Option(metavar="COMMAND", help="How the engine starts again; without it, it does not."),
    ] = "",
    seed: Annotated[int, typer.Option(help="Of what is random.")] = 1,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit's XML there.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page for a browser there.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Use volumes of a driver's as containers do and tell what becomes of them; exit code 1 if a case has failed.

    Makes volumes and containers meanwhile, all of which are gone afterwards.
    """
    with told_in_one_line("pyvol"):
        from pluginkit.conform import report
        from pluginkit.engine.api import name_of
        from volplugin.conform.catalogue import chosen, play
        from volplugin.conform.stage import Stage

        cases = chosen(case or ["*"])
        verdicts = []
        called = name_of(engine)
        for each in dict.fromkeys(driver):
            stage = Stage(engine, each, size_option=size_option, restart=restart, seed=seed)
            try:
                verdicts += list(play(stage, cases))
            finally:
                stage.close()
        typer.echo(report.written(verdicts, "Volume conformance", called, junit_to=junit, html_to=html, plainly=json))
    if any(verdict.outcome == "failed" for verdict in verdicts):
        raise typer.Exit(1)
