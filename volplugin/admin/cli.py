"""The administrator's commands: each asks the pyvol that runs, by its socket in the state directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from pluginkit import admin
from pluginkit.cli import AlwaysJson, Json, as_json, told_in_one_line
from pluginkit.events import cli
from pluginkit.events.cli import Follow
from volplugin.admin import engine, present
from volplugin.admin.wire import (
    DiskAnswer,
    InspectAnswer,
    InspectRequest,
    ProtectRequest,
    ResizeAnswer,
    ResizeRequest,
    SnapshotRequest,
    SnapshotsAnswer,
    SnapshotsRequest,
    TrimAnswer,
    TrimRequest,
)
from volplugin.instants.wire import GroupAnswer, GroupRequest
from volplugin.values import format_size, rough_size

T = TypeVar("T")

StateDir = Annotated[Path, typer.Option(envvar="PYVOL_STATE_DIR", help="State directory of the pyvol that is asked.")]
Name = Annotated[str, typer.Argument(metavar="VOLUME", help="Name of a volume.")]
Snapshot = Annotated[str, typer.Argument(metavar="VOLUME@NAME", help="A snapshot.")]
DEFAULT_STATE_DIR = Path("/var/lib/pyvol")


def add_commands(app: typer.Typer) -> None:
    """The command line has the administrator's commands."""
    app.command("ls")(list_volumes)
    app.command("inspect")(inspect)
    app.command("api")(api)
    app.command("df")(df)
    app.command("events")(events)
    app.command("resize")(resize)
    app.command("trim")(trim)
    app.command("protect")(protect)
    app.command("prune")(prune)
    snapshots = typer.Typer(help="Snapshots of volumes, mounted or not.", no_args_is_help=True, rich_markup_mode=None)
    snapshots.command("create")(create_snapshot)
    snapshots.command("ls")(list_snapshots)
    snapshots.command("rm")(remove_snapshots)
    snapshots.command("restore")(restore)
    app.add_typer(snapshots, name="snapshot")


def api(json: AlwaysJson = True) -> None:  # noqa: ARG001
    """Print the description of the socket for administrators, as OpenAPI."""
    from pluginkit.openapi.description import describe
    from volplugin.admin.api import METHODS

    typer.echo(as_json(describe("pyvol", METHODS)))


def list_volumes(json: Json = False, state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """List the volumes: what they are, what is in them, who has them mounted."""
    answer = ask(state_dir, "Volumes.Inspect", InspectRequest(), InspectAnswer)
    typer.echo(as_json(answer.Volumes) if json else present.table(answer.Volumes))


def inspect(
    names: Annotated[list[str], typer.Argument(metavar="VOLUME...", help="Names of volumes.")],
    json: AlwaysJson = True,  # noqa: ARG001
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Print everything that is known of volumes, as JSON."""
    typer.echo(as_json(ask(state_dir, "Volumes.Inspect", InspectRequest(tuple(names)), InspectAnswer).Volumes))


def df(json: Json = False, state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """Print what the volumes take of the disk, what it has available, and how far they may still grow."""
    disk = ask(state_dir, "Disk.Inspect", {}, DiskAnswer)
    answer = ask(state_dir, "Volumes.Inspect", InspectRequest(), InspectAnswer)
    typer.echo(present.disk_as_json(disk, answer.Volumes) if json else present.disk(disk, answer.Volumes))


def events(follow: Follow = True, json: Json = False, state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """Print what has happened to volumes, snapshots and pools, and what failed; then what happens."""
    cli.run("pyvol", state_dir, lambda event: cli.line(event, event.ID), follow=follow, json=json)


def resize(
    name: Name,
    size: Annotated[str, typer.Argument(help="New size, as with -o size: 2G.")],
    json: Json = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Give a volume another size. It grows while it is mounted; ext4 and btrfs shrink while they are not."""
    answer = ask(state_dir, "Volumes.Resize", ResizeRequest(name, size), ResizeAnswer)
    later = "; the kernel does not let it grow while it is mounted: it will at its next mount"
    if json:
        typer.echo(as_json(answer))
        return
    typer.echo(f"{name} has {format_size(answer.SizeBytes)}{later if answer.AtNextMount else ''}")


def trim(
    names: Annotated[list[str], typer.Argument(metavar="VOLUME...", help="Names of volumes.")],
    json: Json = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Give the space of deleted files back to the disk. Containers go on."""
    answers = {}
    for name in names:
        answers[name] = ask(state_dir, "Volumes.Trim", TrimRequest(name), TrimAnswer)
        if not json:
            typer.echo(f"{name}: {rough_size(answers[name].FreedBytes)} came free")
    if json:
        typer.echo(as_json(answers))


def protect(
    name: Name,
    off: Annotated[bool, typer.Option("--off", help="It may be removed again.")] = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Keep a volume from being removed or restored, by whomever."""
    ask(state_dir, "Volumes.Protect", ProtectRequest(name, not off), dict)
    typer.echo(name)


def prune(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    driver: Annotated[str, typer.Option(help="Driver's name, as the engine spells it: pyvol:latest.")] = "pyvol",
    socket: Annotated[Path, typer.Option("--engine", help="Unix socket of the engine.")] = Path("/run/docker.sock"),
    json: Annotated[
        bool, typer.Option("--json", help="Print them as JSON; without --yes nothing is asked or removed.")
    ] = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Remove the volumes that no container of the engine has, and that are neither protected nor have snapshots."""
    with told_in_one_line("pyvol"):
        names = engine.unused(socket, driver)
    known = ask(state_dir, "Volumes.Inspect", InspectRequest(), InspectAnswer).Volumes
    doomed = [volume for volume in known if volume.Name in names and present.is_prunable(volume)]
    if json:
        typer.echo(as_json(doomed))
    elif not doomed:
        typer.echo("No volume is unused.")
    else:
        typer.echo(present.table(doomed))
        if not yes:
            typer.confirm("Remove these volumes with all that is in them?", abort=True)
    if json and not yes:
        return
    # One that got a container meanwhile is refused by the engine, and ends this.
    for volume in doomed:
        with told_in_one_line("pyvol"):
            engine.remove(socket, volume.Name)
        if not json:
            typer.echo(f"removed {volume.Name}")


def create_snapshot(
    snapshots: Annotated[list[str], typer.Argument(metavar="VOLUME@NAME...", help="Snapshots, of one volume each.")],
    within: Annotated[float, typer.Option(metavar="SECONDS", help="Of several: containers wait no longer.")] = 5,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Keep what is in volumes now, of several at one instant. Containers may go on writing; they wait for a moment."""
    if len(snapshots) == 1:
        ask(state_dir, "Snapshots.Create", SnapshotRequest(snapshots[0]), dict)
        typer.echo(snapshots[0])
        return
    answer = ask(state_dir, "Snapshots.CreateGroup", GroupRequest(tuple(snapshots), within), GroupAnswer)
    typer.echo(f"{' '.join(snapshots)}: who wrote had to wait for {answer.FrozenMs} ms at most")


def list_snapshots(
    volumes: Annotated[list[str] | None, typer.Argument(metavar="[VOLUME...]", help="Of these alone.")] = None,
    json: Json = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """List snapshots, the oldest of a volume first."""
    request = SnapshotsRequest(tuple(volumes or ()))
    answer = ask(state_dir, "Snapshots.List", request, SnapshotsAnswer)
    typer.echo(as_json(answer.Snapshots) if json else present.snapshots(answer.Snapshots))


def remove_snapshots(
    snapshots: Annotated[list[str], typer.Argument(metavar="VOLUME@NAME...", help="Snapshots.")],
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Delete snapshots for good."""
    for snapshot in snapshots:
        ask(state_dir, "Snapshots.Remove", SnapshotRequest(snapshot), dict)
        typer.echo(snapshot)


def restore(snapshot: Snapshot, state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """Put back what was in a volume, which no container uses. What was written since is lost; the snapshot stays."""
    ask(state_dir, "Snapshots.Restore", SnapshotRequest(snapshot), dict)
    typer.echo(snapshot)


def ask(state_dir: Path, method: str, request: Any, wanted: type[T]) -> T:
    """Return the answer of the pyvol that serves there; without a good one this command has ended."""
    with told_in_one_line("pyvol"):
        return admin.call("pyvol", state_dir, method, request, wanted)
