"""The command `doctor` as all plugins have it: look, put right if asked to, look again, tell, and the exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from pluginkit.cli import as_json
from pluginkit.doctor import findings
from pluginkit.doctor.findings import Finding
from pluginkit.errors import Unavailable

V = TypeVar("V")
S = TypeVar("S")

Fix = Annotated[bool, typer.Option("--fix", help="Put right what can be without taking anything away.")]


def run(
    look: Callable[[], S],
    examine: Callable[[S], list[Finding]],
    put_right: Callable[[list[Finding], S], None],
    *,
    fix: bool,
    json: bool,
) -> None:
    """What is wrong was told, after it was put right if `fix`.

    Raises: typer.Exit: with 1, there is a fault or a warning.
    """
    sight = look()
    found = examine(sight)
    if fix and any(finding.fix for finding in found):
        put_right(found, sight)
        found = examine(look())
    if json:
        typer.echo(as_json(found))
    elif found:
        typer.echo(findings.told(found))
    else:
        typer.echo("Nothing is wrong.")
    if any(finding.level != "note" for finding in found):
        raise typer.Exit(1)


def ask_engines(
    name: str, paths: Iterable[Path], look: Callable[[Path], V], together: Callable[[Sequence[V]], V]
) -> V | None:
    """Return what all engines know that there are; None: there is none, or one does not answer, which was told."""
    views = []
    for path in paths:
        if path.exists():
            try:
                views.append(look(path))
            except Unavailable as exc:
                typer.echo(f"{name}: {exc}", err=True)
                return None
    return together(views) if views else None
