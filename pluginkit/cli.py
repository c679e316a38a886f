"""What the command lines of the plugins have in common: their manner, --version, and how failures are told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from pluginkit.errors import PluginError

_PACKAGE = "pynet-pyvol"


def create_cli(name: str, summary: str) -> typer.Typer:
    """Return the command line of the plugin `name`, without commands yet."""
    cli = typer.Typer(
        help=summary,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def print_version(wanted: bool) -> None:
        if wanted:
            from importlib.metadata import version

            typer.echo(f"{name} {version(_PACKAGE)}")
            raise typer.Exit

    @cli.callback(help=summary)
    def root(
        # Not Annotated: an annotation is read where print_version is not known.
        _version: bool = typer.Option(
            False, "--version", callback=print_version, is_eager=True, help="Print the version and exit."
        ),
    ) -> None:
        """Options before the command."""

    return cli


@contextmanager
def told_in_one_line(name: str) -> Iterator[None]:
    """A PluginError that left the block was printed to stderr, and the process ends with exit code 1."""
    try:
        yield
    except PluginError as exc:
        typer.echo(f"{name}: {exc}", err=True)
        sys.exit(1)
