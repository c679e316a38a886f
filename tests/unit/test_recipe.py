"""The root file systems of the managed plugins: one recipe, and in it exactly the programs that are run."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "plugin-configs"
PACKAGES = {"pynet": ("netplugin", "pluginkit"), "pyvol": ("volplugin", "pluginkit")}
# Run where the command line runs, on the host: `pyvol export`, `pyvol import`, both `conform`, and both `install`.
ON_THE_HOST = {"tar", "nsenter", "systemctl", "ip", "/usr/bin/sleep", "flock"}
# Run for encrypted overlays, which a managed plugin refuses because it lacks them.
FOR_ENCRYPTION = {"wg", "setsid"}
# Values and HTTP methods, of which some machines have programs too.
WORDS = {"true", "GET", "POST"}
# Their names are put together: "ip6tables" and "-restore".
PUT_TOGETHER = {f"{family}tables{suffix}" for family in ("ip", "ip6") for suffix in ("", "-restore", "-save")}
# Interpreters, what names are links to, what Entrypoint mounts with, what waits in `command.afterwards`.
BEHIND = {
    "python3",
    "python3.11",
    "pynet",
    "pyvol",
    "dash",
    "sh",
    "mount",
    "xtables-nft-multi",
    "mke2fs",
    "timeout",
    "cat",
}


def listed(name: str) -> set[str]:
    return set(re.sub(r"#.*", "", (CONFIGS / name).read_text()).split())


def run_by(packages: tuple[str, ...]) -> set[str]:
    """The programs that lists in the source begin with."""
    found = set()
    for path in (path for package in packages for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            first = node.elts[0] if isinstance(node, ast.List) and node.elts else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and shutil.which(first.value):
                found.add(first.value)
    return found


@pytest.mark.parametrize("name", PACKAGES)
def test_the_programs_in_it_are_those_that_are_run(name: str) -> None:
    run = run_by(PACKAGES[name]) - ON_THE_HOST - FOR_ENCRYPTION - WORDS
    assert run, "the tests' machine has the programs"
    programs = listed(f"{name}/programs")
    assert run - programs == set()
    assert programs - run - BEHIND - PUT_TOGETHER == set()


def test_the_containerfile_has_the_same_recipe() -> None:
    """It runs the script of `make plugins` on everything that the script reads, and knows no package of a plugin's."""
    text = (CONFIGS / "Containerfile").read_text()
    assert re.search(r"^RUN .*\bscripts/plugins /plugins$", text, re.MULTILINE)
    copied = {word for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE) for word in line.split()}
    [product] = re.findall(r"^PRODUCT=\((.*)\)$", (ROOT / "scripts" / "plugins").read_text(), re.MULTILINE)
    assert copied == {*product.split(), "plugin-configs", "scripts", ".gitignore"}
    installed = re.search(r"--no-install-recommends (.*)", text)
    assert installed
    assert not set(installed[1].split()) & (listed("pynet/packages") | listed("pyvol/packages"))
