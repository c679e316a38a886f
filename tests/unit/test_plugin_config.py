"""The managed plugins' config.json: every setting of the operator's can be set there, under the same name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from netplugin.cli import app as pynet
from volplugin.cli import app as pyvol

CONFIGS = Path(__file__).parents[2] / "plugin-configs"
COMMANDS = {"pynet": get_command(pynet), "pyvol": get_command(pyvol)}
# What the engine decides, or what a path inside of the plugin cannot mean.
NOT_SET = {
    "PYNET_SOCKET": "Interface.Socket",
    "PYVOL_SOCKET": "Interface.Socket",
    "PYNET_STATE_DIR": "the mount `state` has its source set",
    "PYVOL_STATE_DIR": "the mount `state` has its source set",
    "PYVOL_MOUNT_ROOT": "PropagatedMount",
    "PYVOL_BIND_ROOTS": "no directory of the host's is there",
    "PYVOL_KEY_ROOTS": "no directory of the host's is there but that of the state, where `keys` is",
    "PYNET_ENGINES": "no socket of the engine's is there",
}


def config(name: str) -> Any:
    return json.loads((CONFIGS / name / "config.json").read_text())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_setting_can_be_set(name: str) -> None:
    serve = COMMANDS[name].commands["serve"]  # type: ignore[attr-defined]
    settings = {parameter.envvar for parameter in serve.params if getattr(parameter, "envvar", None)}
    settable = {entry["Name"] for entry in config(name)["Env"] if "value" in entry["Settable"]}
    assert settings - set(NOT_SET) == settable
    assert not settable & set(NOT_SET)


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_are_in_the_code(name: str) -> None:
    """An upgrade keeps the values that the old config.json had: a default in it would never change again."""
    assert [entry["Name"] for entry in config(name)["Env"] if "Value" in entry and entry["Settable"]] == []


def test_a_mounted_volume_is_where_the_engine_looks() -> None:
    env = {entry["Name"]: entry.get("Value") for entry in config("pyvol")["Env"]}
    assert env["PYVOL_MOUNT_ROOT"] == config("pyvol")["PropagatedMount"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_engine_keeps_its_handlers_under_the_full_name(name: str) -> None:
    types = config(name)["Interface"]["Types"]
    assert [each for each in types if not re.fullmatch(r"docker\.(network|ipam|volume)driver/1\.0", each)] == []
