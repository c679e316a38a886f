"""The systemd units: they parse, and what they say fits the programs that they start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = {unit.name: unit for package in ("netplugin", "volplugin") for unit in (ROOT / package / "systemd").iterdir()}
PYRUN = ROOT / "runtime" / "systemd" / "pyrun.service"
PLUGINS = ("pynet", "pyvol")
# Each of them gives the service a mount namespace of its own. Source: systemd.exec(5).
OWN_MOUNTS = re.compile(
    r"^(Private(Tmp|Devices|Mounts|Network|Users)|Protect(System|Home|Kernel\w+|ControlGroups|Hostname|Proc)|ProcSubset"
    r"|\w+Paths|Root\w+|Bind\w+|TemporaryFileSystem|Mount\w+|DynamicUser|LogNamespace)=",
    re.MULTILINE,
)


def settings(unit: str) -> dict[str, list[str]]:
    """Return the values of each setting, whatever its section."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNITS[unit].read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def help_of(command: list[str]) -> str:
    script = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [script, *command[1:], "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    return done.stdout


def test_systemd_reads_them(tmp_path: Path) -> None:
    names = [*(f"{plugin}.{kind}" for plugin in PLUGINS for kind in ("service", "socket")), "pynet-mirror.service"]
    assert sorted(UNITS) == sorted(names)
    for name in names:
        # The plugins need not be installed where this is run; any program will do.
        text = re.sub(r"^ExecStart=\w+", "ExecStart=true", UNITS[name].read_text(), flags=re.MULTILINE)
        (tmp_path / name).write_text(text)
    verify = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in names)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("plugin", PLUGINS)
def test_the_command_exists_and_its_defaults_fit(plugin: str) -> None:
    service, socket = settings(f"{plugin}.service"), settings(f"{plugin}.socket")
    [command] = service["ExecStart"]
    assert command.split() == [plugin, "serve"]
    said = help_of(command.split())
    assert f"default: {socket['ListenStream'][0]}]" in said
    assert f"default: /var/lib/{service['StateDirectory'][0]}]" in said
    assert service["EnvironmentFile"] == [f"-/etc/default/{plugin}"]
    assert socket["SocketMode"] == ["0660"]
    for unit in (service, socket):
        assert "docker.service" in unit["Before"]


def test_the_mirrors_command_exists_and_has_no_right_but_to_speak() -> None:
    mirror = settings("pynet-mirror.service")
    assert mirror["ExecStart"] == ["pynet mirror"]
    assert mirror["EnvironmentFile"] == settings("pynet.service")["EnvironmentFile"]
    assert mirror["CapabilityBoundingSet"] == [""]
    assert "PYNET_CLUSTER" in help_of(["pynet", "mirror"])


def test_pyvols_mounts_reach_the_host() -> None:
    assert OWN_MOUNTS.findall(UNITS["pyvol.service"].read_text()) == []
    assert OWN_MOUNTS.findall(UNITS["pynet.service"].read_text()) != []


@pytest.mark.parametrize("plugin", PLUGINS)
def test_the_settings_in_the_operators_guide_are_those_of_the_program(plugin: str) -> None:
    variable = re.compile(rf"\b{plugin.upper()}_[A-Z_]+\b")
    guide = (ROOT / "docs" / "operating.md").read_text()
    assert set(variable.findall(guide)) == set(variable.findall(help_of([plugin]) + help_of([plugin, "serve"])))


def test_pyruns_containers_outlive_its_service_and_see_its_mounts(tmp_path: Path) -> None:
    text = PYRUN.read_text()
    (tmp_path / PYRUN.name).write_text(re.sub(r"^ExecStart=\w+", "ExecStart=true", text, flags=re.MULTILINE))
    verify = ["systemd-analyze", "verify", "--man=no", str(tmp_path / PYRUN.name)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"KillMode=process", "Delegate=yes", "ExecStart=pyrun serve"} <= set(text.splitlines())
    assert OWN_MOUNTS.findall(text) == []
    assert "default: /var/lib/pyrun]" in " ".join(help_of(["pyrun", "serve"]).split())
