"""Man pages and completions: what `make manual` writes, read by man and by the shells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("pynet.8", "pynet.toml.5", "pyrun.8", "pyvol.8", "pyvol.toml.5")
BIN = Path(sys.executable).parent
# The script for the shell is read, then somebody types the word and presses the tab key.
TYPED = {
    "bash": """
        source "$0/bash/pynet"
        COMP_WORDS=(pynet "$1") COMP_CWORD=1
        _pynet_completion pynet
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    # What zsh's own functions get from the script is printed in their stead: they need a terminal.
    "zsh": """
        compdef() { }
        _arguments() { print -r -- "$@" }
        words=(pynet "$1") CURRENT=2
        fpath=("$0/zsh" $fpath)
        autoload -Uz _pynet
        _pynet
    """,
    "fish": """
        source "$argv[1]/fish/pynet.fish"
        complete -C "pynet $argv[2]"
    """,
}
WITHOUT_PROFILE = {"bash": "--norc", "zsh": "-f", "fish": "--no-config"}


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manual")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "86400"}
    subprocess.run([sys.executable, ROOT / "scripts/manual.py", folder], check=True, env=environment)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_man_has_nothing_to_complain_of(manual: Path, page: str) -> None:
    assert sorted(path.name for path in (manual / "man").iterdir()) == sorted(PAGES)
    command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", manual / "man" / page]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "MANROFFSEQ": ""})
    assert done.stderr == ""


def shown(page: Path) -> str:
    """The page as it is read, in one line."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "200", "MAN_KEEP_FORMATTING": ""}
    command = ["man", "--no-hyphenation", "-l", page]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return " ".join(done.stdout.split())


def test_a_page_says_what_the_program_says(manual: Path) -> None:
    page = shown(manual / "man" / "pyvol.8")
    assert "pyvol - Docker volume driver" in page
    assert "pyvol snapshot create [OPTION...] VOLUME@NAME" in page
    assert "--default-size=SIZE Size of a volume without -o size. Default: 1GiB. Variable: PYVOL_DEFAULT_SIZE." in page
    assert "OPTIONS OF THE DRIVER As in docker volume create -d pyvol -o KEY=VALUE." in page
    assert "1970-01-02" in page
    assert "firewall What programs the firewall" in shown(manual / "man" / "pynet.toml.5")


@pytest.mark.parametrize("shell", TYPED)
def test_shells_complete_commands(manual: Path, shell: str) -> None:
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(manual)}
    arguments = [shell, WITHOUT_PROFILE[shell], "-c", TYPED[shell], manual, "relea"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    assert "release-pool" in done.stdout
    assert "delete-network" not in done.stdout
    assert done.stderr == ""
