"""The commands of schedules."""

from __future__ import annotations

from typing import Annotated

import typer

from pluginkit import admin
from pluginkit.cli import Json, as_json, columns, told_in_one_line
from volplugin.admin.cli import DEFAULT_STATE_DIR, Name, StateDir
from volplugin.admin.wire import InspectAnswer, InspectRequest
from volplugin.instants.wire import ScheduleRequest


def add_schedule_commands(app: typer.Typer) -> None:
    """The command line has the commands of schedules."""
    schedules = typer.Typer(help="Snapshots at set times.", no_args_is_help=True, rich_markup_mode=None)
    schedules.command("set")(set_schedule)
    schedules.command("rm")(remove_schedule)
    schedules.command("ls")(list_schedules)
    app.add_typer(schedules, name="schedule")


def set_schedule(
    name: Name,
    schedule: Annotated[str, typer.Argument(metavar="SPANS", help="4h:1d:2w: every 4 hours, kept for a day; …")],
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Take snapshots of a volume at set times, and delete those of them that are old.

    4h:1d:2w takes one every 4 hours and keeps each for a day; of older ones it keeps one a day, for two weeks.
    """
    with told_in_one_line("pyvol"):
        admin.call("pyvol", state_dir, "Schedules.Set", ScheduleRequest(name, schedule), dict)
    typer.echo(name)


def remove_schedule(name: Name, state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """Take no more snapshots of a volume by itself. Those that were taken stay."""
    with told_in_one_line("pyvol"):
        admin.call("pyvol", state_dir, "Schedules.Set", ScheduleRequest(name, ""), dict)
    typer.echo(name)


def list_schedules(json: Json = False, state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """List the volumes that have a schedule."""
    with told_in_one_line("pyvol"):
        volumes = admin.call("pyvol", state_dir, "Volumes.Inspect", InspectRequest(), InspectAnswer).Volumes
    rows = [(volume.Name, volume.Status["schedule"]) for volume in volumes if "schedule" in volume.Status]
    typer.echo(as_json(dict(rows)) if json else columns([("VOLUME", "SCHEDULE"), *rows]))
