"""The configuration file: read, refused, and outdone by variables and flags."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from netplugin.cli import app as pynet
from pluginkit.cli import load_settings
from pluginkit.errors import PluginError
from volplugin.cli import app as pyvol

KNOWN = ("state_dir", "pool")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pynet.toml"
    path.write_text(text)
    return path


def test_names_are_those_of_the_flags(tmp_path: Path) -> None:
    path = written(tmp_path, 'state-dir = "/data"\npool = ["a", "b"]\n')
    assert load_settings(path, KNOWN, required=True) == {"state_dir": "/data", "pool": ["a", "b"]}


def test_no_file_is_no_setting_unless_it_was_asked_for(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert load_settings(missing, KNOWN, required=False) == {}
    with pytest.raises(PluginError, match=r"missing\.toml: there is no such file"):
        load_settings(missing, KNOWN, required=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("colour = 1\n", "colour is no setting; there are pool, state-dir"),
        ('state_dir = "/data"\n', "state_dir is no setting"),
        ("[serve]\n", "serve is no setting"),
        ("state-dir = /data\n", "it is not TOML"),
        ("pool = 'a\n", "it is not TOML"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(PluginError, match=reason) as caught:
        load_settings(path, KNOWN, required=True)
    assert str(path) in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="Is a directory"):
        load_settings(tmp_path, KNOWN, required=False)


def test_flag_before_variable_before_file(tmp_path: Path) -> None:
    """Seen by which socket is asked, and found missing."""
    path = written(tmp_path, f'state-dir = "{tmp_path}/file"\n')
    runner = CliRunner()
    for argv, env, expected in (
        (["ls"], {}, "file"),
        (["ls"], {"PYVOL_STATE_DIR": f"{tmp_path}/variable"}, "variable"),
        (["ls", "--state-dir", f"{tmp_path}/flag"], {"PYVOL_STATE_DIR": f"{tmp_path}/variable"}, "flag"),
        (["snapshot", "ls"], {}, "file"),
    ):
        done = runner.invoke(pyvol, argv, env={"PYVOL_CONFIG": str(path), **env})
        assert done.exit_code == 1
        assert f"{tmp_path}/{expected}/" in done.output


def test_a_wrong_value_is_named_before_anything_starts(tmp_path: Path) -> None:
    path = written(tmp_path, "reconcile-every = 1\n")
    done = CliRunner().invoke(pynet, ["--config", str(path), "serve", "--state-dir", str(tmp_path / "state")])
    assert done.exit_code == 2
    assert "--reconcile-every" in done.output
    assert not (tmp_path / "state").exists()


def test_help_needs_no_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(pynet, ["options"])
    assert done.exit_code == 0
