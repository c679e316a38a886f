"""The commands that look after volumes."""

from __future__ import annotations

from typing import Annotated

import typer

from pluginkit.cli import Json, as_json, columns
from volplugin.admin.cli import DEFAULT_STATE_DIR, Name, StateDir, ask
from volplugin.admin.wire import InspectAnswer, InspectRequest
from volplugin.upkeep.wire import (
    CheckAnswer,
    CheckRequest,
    SetAnswer,
    SetRequest,
    TrashAnswer,
    TrashRequest,
    UndeleteAnswer,
    UndeleteRequest,
)
from volplugin.values import rough_size

_GOOD = ("ok", "mounted", "directory", "unclean")


def add_commands(app: typer.Typer) -> None:
    """The command line has these commands."""
    app.command("check")(check)
    app.command("set")(set_options)
    app.command("undelete")(undelete)
    trash = typer.Typer(help="Volumes that were removed.", no_args_is_help=True, rich_markup_mode=None)
    trash.command("ls")(list_trash)
    trash.command("empty")(empty_trash)
    app.add_typer(trash, name="trash")


def check(
    names: Annotated[list[str] | None, typer.Argument(metavar="[VOLUME...]", help="Names of volumes.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All volumes.")] = False,
    timeout: Annotated[float, typer.Option(min=0.01, metavar="SECONDS", help="The most that one may take.")] = 600.0,
    json: Json = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Look for damage in volumes that are not mounted. Nothing is repaired; the exit code is 1 if there is any."""
    if every == bool(names):
        raise typer.BadParameter("either names of volumes or --all")
    if every:
        names = [volume.Name for volume in ask(state_dir, "Volumes.Inspect", InspectRequest(), InspectAnswer).Volumes]
    answers = []
    for name in names or ():
        answer = ask(state_dir, "Upkeep.Check", CheckRequest(name, timeout), CheckAnswer)
        answers.append(answer)
        if not json:
            typer.echo(f"{name}: {answer.Verdict}" + (f": {answer.Detail}" if answer.Detail else ""))
    if json:
        typer.echo(as_json(answers))
    if any(answer.Verdict not in _GOOD for answer in answers):
        raise typer.Exit(1)


def set_options(
    name: Name,
    options: Annotated[
        list[str], typer.Argument(metavar="OPTION=VALUE...", help="As with -o; without a value: unset.")
    ],
    json: Json = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Change options of a volume that may change later: `pyvol options` says which."""
    given = {}
    for option in options:
        key, sign, text = option.partition("=")
        if not sign:
            raise typer.BadParameter(f"{option} is not spelled OPTION=VALUE")
        given[key] = text
    answer = ask(state_dir, "Upkeep.Set", SetRequest(name, given), SetAnswer)
    if json:
        typer.echo(as_json(answer))
        return
    later = f": it is mounted, and gets {', '.join(answer.AtNextMount)} at its next mount" if answer.AtNextMount else ""
    typer.echo(f"{name}{later}")


def list_trash(json: Json = False, state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """List the volumes that were removed and can be had again."""
    found = ask(state_dir, "Trash.List", {}, TrashAnswer).Trashed
    if json:
        typer.echo(as_json(found))
        return
    rows = [
        (
            each.ID,
            f"{each.ExpiresAt:%Y-%m-%d %H:%M:%S}Z" if each.ExpiresAt else "never",
            rough_size(each.SizeBytes),
            rough_size(each.AllocatedBytes),
        )
        for each in found
    ]
    typer.echo(columns([("TRASHED", "EXPIRES", "SIZE", "ON DISK"), *rows]))


def empty_trash(
    trashed: Annotated[list[str] | None, typer.Argument(metavar="[TRASHED...]", help="These alone.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Delete for good what was removed."""
    doomed = trashed or [each.ID for each in ask(state_dir, "Trash.List", {}, TrashAnswer).Trashed]
    if doomed and not yes:
        typer.echo("\n".join(doomed))
        typer.confirm("Delete these with all that is in them?", abort=True)
    for each in doomed:
        ask(state_dir, "Trash.Drop", TrashRequest(each), dict)
        typer.echo(f"deleted {each}")


def undelete(
    trashed: Annotated[
        str, typer.Argument(metavar="VOLUME", help="The name that it had, or what `trash ls` calls it.")
    ],
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="The name that it gets.")] = "",
    json: Json = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Take a volume out of the trash, the one that was removed last if there are several of that name."""
    answer = ask(state_dir, "Trash.Undelete", UndeleteRequest(trashed, name), UndeleteAnswer)
    typer.echo(as_json(answer) if json else answer.Name)
