"""What the command lines of the plugins have in common: manner, configuration file, --version, telling of failures."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.completion import completion_init  # type: ignore[attr-defined] # documented nowhere, called by Typer

from pluginkit.errors import PluginError

_PACKAGE = "pynet-pyvol"

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AlwaysJson = Annotated[bool, typer.Option("--json", help="Print JSON, as it does without.")]


def create_cli(name: str, summary: str) -> typer.Typer:
    """Return the command line of the plugin `name`, without commands yet."""
    # The scripts of the package ask the program itself; nothing is written into anybody's shell profile.
    completion_init()
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

    config_path, config_variable = f"/etc/{name}/{name}.toml", f"{name.upper()}_CONFIG"

    @cli.callback(help=summary)
    def root(
        context: typer.Context,
        config: str = typer.Option(
            config_path,
            envvar=config_variable,
            help="Configuration file. Variables come before what it says, and flags before variables.",
        ),
        # Not Annotated: an annotation is read where print_version is not known.
        _version: bool = typer.Option(
            False, "--version", callback=print_version, is_eager=True, help="Print the version and exit."
        ),
    ) -> None:
        """Options before the command."""
        source = context.get_parameter_source("config")
        required = source is not None and source.name != "DEFAULT"
        with told_in_one_line(name):
            serve = context.command.commands["serve"]  # type: ignore[attr-defined]
            settings = load_settings(Path(config), {each.name for each in serve.params}, required=required)
        # What click takes where neither a flag nor a variable says anything.
        context.default_map = _defaults(context.command, settings)

    return cli


@contextmanager
def told_in_one_line(name: str) -> Iterator[None]:
    """A PluginError that left the block was printed to stderr, and the process ends with exit code 1."""
    try:
        yield
    except PluginError as exc:
        typer.echo(f"{name}: {exc}", err=True)
        sys.exit(1)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows, each cell below that of the row above."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def as_json(content: Any) -> str:
    """Return `content` as JSON for people to read."""
    import msgspec

    from pluginkit import wire

    return msgspec.json.format(wire.encode(content), indent=2).decode()


def _defaults(command: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that a command takes, and below their names those that its commands take."""
    names = {parameter.name for parameter in command.params}
    below = {name: _defaults(each, settings) for name, each in getattr(command, "commands", {}).items()}
    return {**{name: value for name, value in settings.items() if name in names}, **below}


def load_settings(path: Path, known: Collection[str], *, required: bool) -> dict[str, Any]:
    """Return the file's settings by parameter name (`state_dir` for `state-dir`); none if there need not be a file.

    Raises: PluginError: it cannot be read, is not TOML, or has a key that is no setting.
    """
    try:
        with path.open("rb") as file:
            told = tomllib.load(file)
    except FileNotFoundError as exc:
        if not required:
            return {}
        raise PluginError(f"cannot read the configuration {path}: there is no such file") from exc
    except OSError as exc:
        raise PluginError(f"cannot read the configuration {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise PluginError(f"cannot read the configuration {path}: it is not TOML: {exc}") from exc
    flags = {name.replace("_", "-"): name for name in known}
    for key in told:
        if key not in flags:
            raise PluginError(
                f"cannot use the configuration {path}: {key} is no setting; there are {', '.join(sorted(flags))}"
            )
    return {flags[key]: value for key, value in told.items()}
