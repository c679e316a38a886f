"""`install` and `uninstall`, below a directory that stands for a host's root."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from netplugin.cli import app as pynet
from pluginkit.cli import load_settings
from pluginkit.install.settings import sample_file, settings_of
from volplugin.cli import app as pyvol

PLUGINS = {"pynet": pynet, "pyvol": pyvol}


def run(name: str, root: Path, *arguments: str) -> str:
    done = CliRunner().invoke(PLUGINS[name], [arguments[0], "--root", str(root), *arguments[1:]])
    assert done.exit_code == 0, done.output
    return done.output


UNITS = {
    "pynet": ("pynet.socket", "pynet.service", "pynet-mirror.service"),
    "pyvol": ("pyvol.socket", "pyvol.service"),
}


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("name", PLUGINS)
def test_what_is_installed_and_that_nothing_is_left(name: str, tmp_path: Path) -> None:
    said = run(name, tmp_path, "install", "--program", f"/opt/bin/{name}")
    assert files(tmp_path) == {
        *(f"etc/systemd/system/{unit}" for unit in UNITS[name]),
        f"etc/{name}/{name}.toml",
    }
    assert f"nothing was started. By hand: /opt/bin/{name} serve" in said
    unit = (tmp_path / f"etc/systemd/system/{name}.service").read_text()
    assert f"\nExecStart=/opt/bin/{name} serve\n" in unit
    assert stat.S_IMODE((tmp_path / f"var/lib/{name}").stat().st_mode) == 0o700

    run(name, tmp_path, "uninstall")
    assert files(tmp_path) == set()
    assert not (tmp_path / f"var/lib/{name}").exists()
    assert not (tmp_path / f"etc/{name}").exists()


@pytest.mark.parametrize("name", PLUGINS)
def test_a_dry_run_says_the_same_and_does_nothing(name: str, tmp_path: Path) -> None:
    told = run(name, tmp_path, "install", "--dry-run")
    assert list(tmp_path.iterdir()) == []
    assert run(name, tmp_path, "install") == told
    before = files(tmp_path)
    told = run(name, tmp_path, "uninstall", "--dry-run")
    assert files(tmp_path) == before
    assert run(name, tmp_path, "uninstall").splitlines()[:3] == told.splitlines()[:3]


def test_what_is_somebodys_work_stays(tmp_path: Path) -> None:
    run("pyvol", tmp_path, "install")
    configuration = tmp_path / "etc/pyvol/pyvol.toml"
    configuration.write_text('default-size = "4GiB"\n')
    record = tmp_path / "var/lib/pyvol/pyvol.db"
    record.write_text("records")
    assert f"keep {configuration}" in run("pyvol", tmp_path, "install")
    assert configuration.read_text() == 'default-size = "4GiB"\n'
    said = run("pyvol", tmp_path, "uninstall")
    assert f"keep {configuration}: it was changed" in said
    assert f"keep {record.parent}: it has what pyvol remembers" in said
    assert files(tmp_path) == {"etc/pyvol/pyvol.toml", "var/lib/pyvol/pyvol.db"}


def test_what_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file")
    done = CliRunner().invoke(pynet, ["install", "--root", str(tmp_path)])
    assert done.exit_code == 1
    assert "pynet: cannot write" in done.output
    assert "etc/systemd/system/pynet.socket: Not a directory" in done.output


@pytest.mark.parametrize("name", PLUGINS)
def test_the_sample_changes_nothing_and_shows_every_setting(name: str, tmp_path: Path) -> None:
    serve = typer.main.get_command(PLUGINS[name]).commands["serve"]  # type: ignore[attr-defined]
    settings = settings_of(serve.params)
    sample = tmp_path / "sample.toml"
    sample.write_text(sample_file(name, settings))
    known = {parameter.name for parameter in serve.params}
    assert load_settings(sample, known, required=True) == {}
    assert all(len(line) <= 120 for line in sample.read_text().splitlines())
    # Without the signs of comment before settings it is a file that says all of them.
    shown = "\n".join(line[1:] if line.startswith("#") and line[1:2].isalpha() else line
                      for line in sample.read_text().splitlines())  # fmt: skip
    sample.write_text(shown)
    assert set(tomllib.loads(shown)) == {name.replace("_", "-") for name in known}
    assert set(load_settings(sample, known, required=True)) == known
