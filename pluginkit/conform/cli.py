"""What `pynet conform` and `pyvol conform` have in common: options, and drivers side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pluginkit.conform.verdict import Verdict

Engine = Annotated[Path, typer.Option(help="Socket of the engine, which runs on this host.")]
DEFAULT_ENGINE = Path("/run/docker.sock")
JUnit = Annotated[Path | None, typer.Option(help="Also write JUnit's XML there.")]
Html = Annotated[Path | None, typer.Option(help="Also write a page for a browser there.")]


def side_by_side(
    title: str,
    engine: Path,
    drivers: list[str],
    play: Callable[[str], Iterator[Verdict]],
    *,
    junit: Path | None,
    html: Path | None,
    json: bool,
) -> None:
    """What comes of the cases with each driver is printed, and written where that is wanted.

    play: yields what comes of them with one driver.

    Raises: typer.Exit: a case has failed; PluginError: it could not be played or written.
    """
    # Imported when asked for: other commands do not wait for a template engine.
    from pluginkit.conform import report
    from pluginkit.engine.api import name_of

    called = name_of(engine)
    verdicts = [verdict for driver in dict.fromkeys(drivers) for verdict in play(driver)]
    typer.echo(report.written(verdicts, title, called, junit_to=junit, html_to=html, plainly=json))
    if any(verdict.outcome == "failed" for verdict in verdicts):
        raise typer.Exit(1)
