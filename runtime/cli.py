"""The command line of pyrun. What is slow to import is imported by the command that needs it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
from typer.completion import completion_init  # type: ignore[attr-defined] # documented nowhere, called by Typer

from runtime.client.cli import add_commands
from runtime.errors import ApiError

completion_init()
app = typer.Typer(
    name="pyrun",
    help="A small container runtime: the Docker Engine API over conmon and runc.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def main() -> None:
    """A small container runtime: the Docker Engine API over conmon and runc."""


@app.command()
def serve(
    socket: Annotated[Path, typer.Option(envvar="PYRUN_SOCKET", help="Unix socket to answer on.")] = Path(
        "/run/pyrun/pyrun.sock"
    ),
    root: Annotated[
        Path, typer.Option(envvar="PYRUN_ROOT", help="Directory of images, containers and records.")
    ] = Path("/var/lib/pyrun"),
    exec_root: Annotated[
        Path, typer.Option(envvar="PYRUN_EXEC_ROOT", help="Directory of what a reboot ends: sockets, namespaces.")
    ] = Path("/run/pyrun"),
    cgroup: Annotated[
        str, typer.Option(envvar="PYRUN_CGROUP", help="Control group below which those of containers are made.")
    ] = "/pyrun",
    default_address_pool: Annotated[
        list[str],
        typer.Option(envvar="PYRUN_DEFAULT_ADDRESS_POOL", help="Where networks without --subnet get one; repeatable."),
    ] = ["base=172.30.0.0/15,size=24"],  # noqa: B006
    live_restore: Annotated[
        bool, typer.Option(envvar="PYRUN_LIVE_RESTORE", help="Whether containers go on when pyrun ends.")
    ] = True,
    log_level: Annotated[str, typer.Option(envvar="PYRUN_LOG_LEVEL", help="debug, info, warning or error.")] = "info",
) -> None:
    """Answer docker until SIGTERM. Containers that go on are met again by the next one."""
    logging.basicConfig(level=log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    from runtime import app as runtime
    from runtime import service

    config = runtime.Config(root.absolute(), exec_root.absolute(), cgroup, tuple(default_address_pool), live_restore)
    try:
        service.serve(socket, config.root, lambda: runtime.start(config), 5 if live_restore else 60)
    except ApiError as exc:
        typer.echo(f"pyrun: {exc}", err=True)
        raise typer.Exit(1) from exc


add_commands(app)
