"""Writes man pages and shell completions of pynet, pyvol and pyrun, from their own command lines.

manual.py FOLDER   below it: man/NAME.8, man/NAME.toml.5, bash/NAME, zsh/_NAME, fish/NAME.fish. SOURCE_DATE_EPOCH is
                   the date in the pages, if it is set: the same files then give the same pages.
"""

from __future__ import annotations

import datetime
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from typer.completion import get_completion_script

from netplugin.cli import app as pynet
from netplugin.options import OPTIONS as NETWORK_OPTIONS
from pluginkit.install.settings import Setting, settings_of
from runtime.cli import app as pyrun
from volplugin.cli import app as pyvol
from volplugin.options import LOCAL_OPTIONS
from volplugin.options import OPTIONS as VOLUME_OPTIONS

COMPLETIONS = {"bash": "bash/{}", "zsh": "zsh/_{}", "fish": "fish/{}.fish"}


@dataclass(frozen=True)
class Program:
    """A program, and what its page has beside its commands."""

    name: str
    app: typer.Typer
    configurable: bool = True
    creating: str = ""
    options: tuple[Any, ...] = ()
    files: dict[str, str] = field(default_factory=dict)


PLUGIN_FILES = {
    "/etc/{0}/{0}.toml": "Settings; see {0}.toml(5).",
    "/etc/default/{0}": "Variables that the unit reads.",
    "/run/docker/plugins/{0}.sock": "Where it answers the engine.",
}
PROGRAMS = (
    Program("pynet", pynet, creating="docker network create -d pynet", options=NETWORK_OPTIONS,
            files={**PLUGIN_FILES, "/var/lib/{0}": "Records of networks and endpoints."}),
    Program("pyvol", pyvol, creating="docker volume create -d pyvol", options=(*VOLUME_OPTIONS, *LOCAL_OPTIONS),
            files={**PLUGIN_FILES, "/var/lib/{0}": "Records and data of volumes."}),
    Program("pyrun", pyrun, configurable=False,
            files={"/var/lib/{0}": "Images, containers and records.", "/run/{0}/{0}.sock": "Where it answers docker."}),
)  # fmt: skip


def text(said: object) -> str:
    """Return `said` as troff prints it: nothing in it is a request, a hyphen is one that can be copied."""
    plain = re.sub(r"`([^`]*)`|\[([^]]*)\]\([^)]*\)", lambda match: match[1] or match[2], str(said))
    escaped = plain.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return re.sub(r"^(?=[.'])", r"\\&", escaped, flags=re.MULTILINE)


def paragraph(said: str) -> Iterator[str]:
    """Yield a paragraph for each of `said`."""
    for part in said.strip().split("\n\n"):
        yield ".PP"
        yield text(" ".join(part.split()))


def item(head: str, said: object) -> list[str]:
    """Return an item of a list, whose head is troff already."""
    return [".TP", head, text(said) or "\\&"]


def default_of(parameter: Any) -> str:
    """Return what an option is without a word of the user, and nothing if that says nothing."""
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.is_flag or parameter.default in (None, "", [], ()):
        return ""
    return " ".join(map(str, parameter.default)) if isinstance(parameter.default, list) else str(parameter.default)


def placeholder(parameter: Any) -> str:
    """Return what stands for the value of an option: `auto|nftables`, `SIZE`, `STATE_DIR`."""
    annotation = parameter.type_descriptor.annotation
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    return str(parameter.metavar or parameter.opts[-1].removeprefix("--").replace("-", "_").upper())


def option(parameter: Any) -> list[str]:
    """Return an option of a command: its spellings, its value, what it means and what else says it."""
    head = ", ".join(f"\\fB{text(spelling)}\\fR" for spelling in (*parameter.opts, *parameter.secondary_opts))
    if not parameter.is_flag:
        head += f"=\\fI{text(placeholder(parameter))}\\fR"
    told = [parameter.help or ""]
    if default := default_of(parameter):
        told.append(f"Default: {default}.")
    if parameter.envvar:
        told.append(f"Variable: {parameter.envvar}.")
    return item(head, " ".join(told))


def usage(name: str, command: Any) -> str:
    """Return the line that a user would write."""
    words = [f"\\fB{text(name)}\\fR"]
    if any(parameter.param_type_name == "option" for parameter in command.params):
        words.append("[\\fIOPTION\\fR...]")
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            shown = str(parameter.metavar or parameter.name.upper())
            words.append(f"\\fI{text(shown)}\\fR")
    return " ".join(words)


def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield each command that does something, by all its words."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
    else:
        for word, below in inner.items():
            if not below.hidden:
                yield from leaves(f"{name} {word}", below)


def heading(title: str, section: int, date: str) -> list[str]:
    """Return how a page begins; words are not hyphenated, and lines are not stretched."""
    release = f"pynet-pyvol {version('pynet-pyvol')}"
    manual = "System Administration" if section == 8 else "File Formats"
    return [f'.TH "{text(title.upper())}" {section} {date} "{release}" "{manual}"', ".nh", ".ad l"]


def command_page(program: Program, date: str) -> str:
    """Return the page in section 8."""
    root = typer.main.get_command(program.app)
    summary = (root.help or "").split("\n")[0].rstrip(".")
    commands = list(leaves(program.name, root))
    lines = [*heading(program.name, 8, date), ".SH NAME", f"{program.name} \\- {text(summary)}", ".SH SYNOPSIS"]
    lines += [f".B {program.name}", "[\\fIOPTION\\fR...] \\fICOMMAND\\fR [\\fIARGUMENT\\fR...]"]
    if general := [parameter for parameter in root.params if not parameter.hidden]:
        lines += [".SH OPTIONS", *(line for parameter in general for line in option(parameter))]
    lines.append(".SH COMMANDS")
    for name, command in commands:
        lines += [f".SS {usage(name, command)}", *paragraph(command.help or "")]
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                lines += option(parameter)
            elif parameter.param_type_name == "argument" and parameter.help:
                lines += item(f"\\fI{text(parameter.metavar or parameter.name.upper())}\\fR", parameter.help)
    if program.options:
        lines += [
            ".SH OPTIONS OF THE DRIVER",
            f"As in \\fB{text(program.creating)} \\-o\\fR \\fIKEY\\fR=\\fIVALUE\\fR.",
        ]
        for row in program.options:
            head = f"\\fB{text(row.key)}\\fR=\\fI{text(row.accepts)}\\fR"
            lines += item(head, f"{row.help} Default: {row.default}.")
    lines.append(".SH FILES")
    for path, meaning in program.files.items():
        lines += item(f"\\fI{text(path.format(program.name))}\\fR", meaning.format(program.name))
    others = [other.name for other in PROGRAMS if other is not program]
    pages = [f"\\fB{program.name}.toml\\fR(5)"] if program.configurable else []
    pages += [f"\\fB{other}\\fR(8)" for other in others]
    return "\n".join([*lines, ".SH SEE ALSO", ", ".join([*pages, "\\fBdocker\\fR(1)"])]) + "\n"


def settings_page(program: Program, settings: tuple[Setting, ...], date: str) -> str:
    """Return the page of the configuration file, in section 5."""
    name = f"{program.name}.toml"
    lines = [*heading(name, 5, date), ".SH NAME", f"{name} \\- settings of {program.name}", ".SH SYNOPSIS"]
    lines += [f"\\fI/etc/{program.name}/{name}\\fR", ".SH DESCRIPTION"]
    lines += paragraph(
        f"A TOML file without tables. A flag of `{program.name} serve` comes before its variable, and a variable before"
        f" this file. {program.name.upper()}_CONFIG names another file. What is no setting is refused at the start."
        f" After a change: `systemctl restart {program.name}`."
    )
    lines.append(".SH SETTINGS")
    for setting in settings:
        default = setting.default_in_words or setting.assignment.partition(" = ")[2]
        lines += item(f"\\fB{text(setting.key)}\\fR", f"{setting.meaning} Default: {default}.")
        lines += [f"Variable: {text(setting.variable)}."]
    return "\n".join([*lines, ".SH SEE ALSO", f"\\fB{program.name}\\fR(8)"]) + "\n"


def pages(date: str) -> Iterator[tuple[str, str]]:
    """Yield each file: path below the folder, content."""
    for program in PROGRAMS:
        yield f"man/{program.name}.8", command_page(program, date)
        if program.configurable:
            serve = typer.main.get_command(program.app).commands["serve"]  # type: ignore[attr-defined]
            yield f"man/{program.name}.toml.5", settings_page(program, settings_of(serve.params), date)
        for shell, path in COMPLETIONS.items():
            variable = f"_{program.name.upper()}_COMPLETE"
            script = get_completion_script(prog_name=program.name, complete_var=variable, shell=shell)
            if shell == "zsh":
                # zsh reads the file at the first tab, and would complete nothing before the second.
                script += f'\n_{program.name}_completion "$@"'
            yield path.format(program.name), script.strip() + "\n"


def main() -> None:
    """The files are written."""
    folder = Path(sys.argv[1])
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC) if epoch else datetime.datetime.now(datetime.UTC)
    for path, content in pages(moment.date().isoformat()):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
