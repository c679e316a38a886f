"""The commands `install` and `uninstall` of a plugin."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from pluginkit.cli import told_in_one_line
from pluginkit.install.files import Installation, Step, install, uninstall
from pluginkit.install.settings import sample_file, settings_of

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the steps and take none.")]
Root = Annotated[
    Path, typer.Option(help="Directory that is to become the root of a host: nothing is started. For packages.")
]
Units = Annotated[Path, typer.Option(help="Directory of the units.")]


def add_install_commands(cli: typer.Typer, name: str, package: str) -> None:
    """`cli` has the commands; the units lie in the Python package `package`."""

    def described(context: typer.Context, root: Path, units: Path, program: Path | None) -> Installation:
        assert context.parent is not None
        serve = context.parent.command.commands["serve"]  # type: ignore[attr-defined]
        folder = files(package) / "systemd"
        return Installation(
            name=name,
            units={unit.name: unit.read_text("utf-8") for unit in sorted(folder.iterdir(), key=_sockets_first)},
            configuration=sample_file(name, settings_of(serve.params)),
            root=root.absolute(),
            unit_dir=units,
            program=program or Path(shutil.which(sys.argv[0]) or sys.argv[0]).absolute(),
        )

    def take(steps: Iterable[Step], dry_run: bool) -> None:
        with told_in_one_line(name):
            for told, step in steps:
                typer.echo(told)
                if not dry_run:
                    step()

    @cli.command("install")
    def install_command(
        context: typer.Context,
        dry_run: DryRun = False,
        root: Root = Path("/"),
        units: Units = Path("/etc/systemd/system"),
        program: Annotated[Path | None, typer.Option(help="What the unit starts.", show_default="this program")] = None,
    ) -> None:
        """Write the units, the configuration file and the state directory; start, now and at each boot."""
        wanted = described(context, root, units, program)
        take(install(wanted), dry_run)
        if not wanted.reaches_systemd():
            typer.echo(f"systemd does not run there, so nothing was started. By hand: {wanted.program} serve")

    @cli.command("uninstall")
    def uninstall_command(
        context: typer.Context,
        dry_run: DryRun = False,
        root: Root = Path("/"),
        units: Units = Path("/etc/systemd/system"),
    ) -> None:
        """Stop it and undo `install`. What is remembered stays, and so does a configuration file that was changed."""
        take(uninstall(described(context, root, units, None)), dry_run)


def _sockets_first(unit: Traversable) -> tuple[bool, str]:
    return not unit.name.endswith(".socket"), unit.name
