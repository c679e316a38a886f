"""Every command of pynet and pyvol: what prints data takes --json, mistakes end with 2, and failures with 1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from netplugin.cli import app as pynet
from volplugin.cli import app as pyvol

PROGRAMS = {"pynet": pynet, "pyvol": pyvol}
# What prints no data but does something, and says at most that it did. All others take --json.
ACTS = {
    "pynet": {
        *("serve", "capture", "console", "mirror", "install", "uninstall", "release-pool", "delete-network"),
        *("cluster forget", "network create", "publish add", "publish rm"),
    },
    "pyvol": {
        *("serve", "protect", "backup", "restore", "export", "import", "detach", "install", "uninstall"),
        *("snapshot create", "snapshot rm", "snapshot restore", "trash empty", "schedule set", "schedule rm"),
        *("pool create", "pool grow", "pool rm"),
    },
}
# Those that ask nobody who could be away: they print what the program knows by itself.
KNOWN = ("api", "options")
# What it takes besides options, and what else a command cannot do without.
CLUSTER = ("--cluster", "etcd://127.0.0.1:1")
WORDS: dict[str, tuple[str, ...]] = {
    "pynet inspect": ("n1",),
    "pynet explain": ("10.9.0.2", "10.9.0.3"),
    "pynet conform": ("--driver", "pynet", "--engine", "/nonexistent"),
    "pynet cluster hosts": CLUSTER,
    "pynet cluster status": CLUSTER,
    "pynet cluster verify": CLUSTER,
    "pyvol inspect": ("v1",),
    "pyvol conform": ("--driver", "pyvol", "--engine", "/nonexistent"),
    "pyvol resize": ("v1", "2G"),
    "pyvol trim": ("v1",),
    "pyvol set": ("v1", "protect=true"),
    "pyvol undelete": ("v1",),
    "pyvol check": ("v1",),
    "pyvol prune": ("--engine", "/nonexistent"),
}


def commands(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command that does something by itself, by the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


def leaves(program: str) -> dict[str, Any]:
    return dict(commands(typer.main.get_command(PROGRAMS[program])))


def run(program: str, *words: str) -> Any:
    """What becomes of the command; its output goes to no terminal, though there is one with colours."""
    return CliRunner(env={"TERM": "xterm-256color", "COLORTERM": "truecolor"}).invoke(PROGRAMS[program], list(words))


EVERY = [(program, name) for program in PROGRAMS for name in leaves(program)]
TELLING = [(program, name) for program, name in EVERY if name not in ACTS[program]]


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_prints_data_takes_json(program: str) -> None:
    taking = {name for name, command in leaves(program).items() if "--json" in flags(command)}
    # prune does something, too.
    assert leaves(program).keys() - taking == ACTS[program]


def flags(command: Any) -> set[str]:
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize(("program", "name"), EVERY)
def test_a_mistake_ends_with_2(program: str, name: str) -> None:
    done = run(program, *name.split(), "--no-such-option")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "No such option: --no-such-option" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(("program", "name"), TELLING)
def test_when_nobody_answers_it_ends_with_1_and_one_line(program: str, name: str, tmp_path: Any) -> None:
    where = ("--state-dir", str(tmp_path)) if "--state-dir" in flags(leaves(program)[name]) else ()
    done = run(program, *name.split(), *WORDS.get(f"{program} {name}", ()), *where, "--json")
    if name in KNOWN:
        assert done.exit_code == 0
        assert json.loads(done.stdout)
        assert "\x1b" not in run(program, name).stdout
        return
    assert done.exit_code == 1, done.output
    assert done.stdout == ""
    assert done.stderr.startswith(f"{program}: cannot ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_is_plain_where_nobody_sees_colours(program: str) -> None:
    done = run(program, "--help")
    assert done.exit_code == 0
    assert "\x1b" not in done.output
