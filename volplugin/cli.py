"""The command line of pyvol. What is slow to import is imported by the command that needs it."""

from __future__ import annotations

import os
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import typer

from pluginkit import log
from pluginkit.cli import Json, as_json, create_cli, told_in_one_line
from pluginkit.install.cli import add_install_commands
from volplugin.admin.cli import add_commands
from volplugin.archive.cli import add_archive_commands
from volplugin.capacity import Overcommit, parse_overcommit
from volplugin.conform.cli import conform
from volplugin.doctor.cli import add_commands as doctor_commands
from volplugin.instants.cli import add_schedule_commands
from volplugin.pools.cli import add_pool_commands
from volplugin.upkeep.cli import add_commands as upkeep_commands

app = create_cli(
    "pyvol", "Docker volume driver: local volumes with a hard size, and directories of the host within bounds."
)


def _parse_size(text: str) -> int:
    from volplugin.options import DEFAULT_FS, MIN_SIZE_BYTES
    from volplugin.values import format_size, parse_size

    try:
        size = parse_size(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text} is not a size such as 512M or 1GiB") from exc
    if size < MIN_SIZE_BYTES[DEFAULT_FS]:
        raise typer.BadParameter(f"{text} is less than {format_size(MIN_SIZE_BYTES[DEFAULT_FS])}")
    return size


def _parse_overcommit(text: str) -> Overcommit:
    try:
        return parse_overcommit(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text} is not never, always or ratio:N with N from 1 to 1000") from exc


def _parse_period(text: str) -> timedelta:
    from volplugin.values import parse_period

    try:
        return parse_period(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text} is not 0 or a time such as 12h, 7d or 2w") from exc


@app.command()
def serve(
    socket: Annotated[
        Path, typer.Option(envvar="PYVOL_SOCKET", help="Unix socket to answer on; its name is the driver's name.")
    ] = Path("/run/docker/plugins/pyvol.sock"),
    state_dir: Annotated[
        Path, typer.Option(envvar="PYVOL_STATE_DIR", help="Directory for the records and the data of volumes.")
    ] = Path("/var/lib/pyvol"),
    mount_root: Annotated[
        Path | None,
        typer.Option(
            envvar="PYVOL_MOUNT_ROOT",
            help="Directory of pyvol's own in which volumes are mounted.",
            show_default="mnt in the state directory",
        ),
    ] = None,
    bind_root: Annotated[
        list[Path] | None,
        typer.Option(
            envvar="PYVOL_BIND_ROOTS",
            help="Directory below which `-o backend=bind` may mount; repeatable, and separated by ':' in the variable.",
            show_default="none",
        ),
    ] = None,
    key_root: Annotated[
        list[Path] | None,
        typer.Option(
            envvar="PYVOL_KEY_ROOTS",
            help="Directory below which keys of volumes are; repeatable, and separated by ':' in the variable.",
            show_default="keys in the state directory",
        ),
    ] = None,
    default_size: Annotated[
        int,
        typer.Option(
            envvar="PYVOL_DEFAULT_SIZE", parser=_parse_size, metavar="SIZE", help="Size of a volume without -o size."
        ),
    ] = "1GiB",  # type: ignore[assignment] # Typer parses the default, too
    overcommit: Annotated[
        Overcommit,
        typer.Option(
            envvar="PYVOL_OVERCOMMIT",
            parser=_parse_overcommit,
            metavar="never|ratio:N|always",
            help="Whether volumes may together grow beyond the disk, or to how many times what it has available.",
        ),
    ] = "never",  # type: ignore[assignment] # Typer parses the default, too
    trash: Annotated[
        timedelta,
        typer.Option(
            envvar="PYVOL_TRASH",
            parser=_parse_period,
            metavar="TIME",
            help="How long a volume that was removed can be had again: 12h, 7d, 2w; 0: not at all.",
        ),
    ] = "0",  # type: ignore[assignment] # Typer parses the default, too
    reconcile_every: Annotated[
        float,
        typer.Option(envvar="PYVOL_RECONCILE_EVERY", min=5.0, help="Seconds between checks of devices and mounts."),
    ] = 60.0,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(envvar="PYVOL_LOG_LEVEL", help="What is told of what happens."),
    ] = "info",
) -> None:
    """Answer dockerd until SIGTERM. SIGHUP puts the kernel right at once; volumes stay mounted when pyvol ends."""
    log.configure(log_level, journald="JOURNAL_STREAM" in os.environ)
    from pluginkit import service
    from volplugin.state import Config, check

    def start() -> service.Running:
        from volplugin import app as plugin

        return plugin.start(config)

    # The kernel tells paths without links, and by its paths we know our own mounts again.
    state_dir = state_dir.resolve()
    config = Config(
        state_dir=state_dir,
        mount_root=(mount_root or state_dir / "mnt").resolve(),
        bind_roots=tuple(root.absolute() for root in bind_root or ()),
        key_roots=tuple(root.absolute() for root in key_root or (state_dir / "keys",)),
        default_size=default_size,
        overcommit=overcommit,
        trash=trash,
    )
    with told_in_one_line("pyvol"):
        service.serve(
            service.Service(
                name="pyvol",
                socket=socket,
                state_dir=state_dir,
                reconcile_every_s=reconcile_every,
                check=lambda: check(config),
                load=lambda: import_module("volplugin.app"),
                start=start,
            )
        )


@app.command()
def options(json: Json = False) -> None:
    """Print the options of `docker volume create -d pyvol -o …`."""
    from volplugin.options import LOCAL_OPTIONS, OPTIONS, describe_options

    if json:
        words = ("key", "backends", "accepts", "default", "later", "help")
        every = (*OPTIONS, *LOCAL_OPTIONS)
        typer.echo(as_json([{word: getattr(option, word) for word in words} for option in every]))
    else:
        typer.echo(describe_options(), nl=False)


app.command()(conform)
add_commands(app)
add_archive_commands(app)
upkeep_commands(app)
doctor_commands(app)
add_schedule_commands(app)
add_pool_commands(app)
add_install_commands(app, "pyvol", "volplugin")
