"""Archives of what has changed, and archives that were interrupted and go on, beside a plugin that serves."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.serving import INTERRUPTIBLE, until
from tests.volume.administrator import PYVOL, Administrator
from tests.volume.serving import Service
from tests.volume.test_archives import MEBIBYTE, files, mount


@pytest.fixture
def key(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    """What every command is given: nothing, or a key."""
    (tmp_path / "key").write_bytes(os.urandom(32))
    return () if request.param == "plain" else ("--key-file", str(tmp_path / "key"))


def content(said: str) -> str:
    return said.split()[-1]


@pytest.mark.parametrize(("fs", "key"), [("ext4", "sealed"), ("xfs", "plain"), ("btrfs", "sealed")], indirect=["key"])
def test_a_chain_of_what_has_changed(
    service: Service, admin: Administrator, tmp_path: Path, fs: str, key: tuple[str, ...]
) -> None:
    service.call("Create", Name="v", Opts={"fs": fs, "size": "320M"})
    place = mount(service, "v")
    archives = [str(tmp_path / name) for name in ("full", "one", "two")]
    kept = os.urandom(20 * MEBIBYTE)
    (place / "kept").write_bytes(kept)
    (place / "gone").write_bytes(os.urandom(5 * MEBIBYTE))
    admin.run("backup", "v", "--to", archives[0], *key)
    (place / "gone").unlink()
    os.sync()
    (place / "new").write_text("of one")
    admin.run("trim", "v")
    admin.run("backup", "v", "--to", archives[1], "--since", archives[0], *key)
    admin.run("resize", "v", "400M")
    (place / "new").write_text("of two")
    said = admin.run("backup", "v", "--to", archives[2], "--since", archives[1], *key)
    sizes = [Path(archive).stat().st_size for archive in archives]
    assert sizes[0] > 25 * MEBIBYTE
    assert max(sizes[1:]) < 10 * MEBIBYTE
    assert content(admin.run("restore", "--check", *archives, *key)) == content(said)
    admin.run("restore", *archives[:2], "--as", "w", *key)
    admin.run("restore", *archives, "--as", "x", *key)
    for name, new in (("w", "of one"), ("x", "of two")):
        copy = mount(service, name)
        assert (copy / "kept").read_bytes() == kept
        assert (copy / "new").read_text() == new
        assert not (copy / "gone").exists()
    assert service.status("x")["size"] == "400MiB"
    before = files(service)
    for chain, why in (
        ([archives[1]], "give that one before it"),
        ([archives[0], archives[2]], "that is not the one before it"),
        ([archives[0], archives[1], archives[1]], "that is not the one before it"),
    ):
        assert why in admin.error("restore", *chain, "--as", "y", *key)
    assert files(service) == before


def test_what_nothing_can_be_since(service: Service, admin: Administrator, tmp_path: Path) -> None:
    service.call("Create", Name="v", Opts={"size": "16M"})
    whole, bad, key = tmp_path / "whole", tmp_path / "bad", tmp_path / "key"
    key.write_bytes(os.urandom(32))
    admin.run("backup", "v", "--to", str(whole), "--key-file", str(key))
    for damage, sealed, said in (
        (whole.read_bytes()[:-1], True, "its end is not what was written"),
        (whole.read_bytes()[:-100] + bytes(76) + whole.read_bytes()[-24:], True, "or the key is another one"),
        (whole.read_bytes()[:-8] + bytes(8), True, "cannot use the archive"),
        (b"short", True, "cannot read "),
        (whole.read_bytes(), False, "it is encrypted; give --key-file"),
    ):
        bad.write_bytes(damage)
        given = ("--key-file", str(key)) if sealed else ()
        assert said in admin.error("backup", "v", "--to", str(tmp_path / "new"), "--since", str(bad), *given)
    assert sorted(path.name for path in tmp_path.glob("new*")) == []


@pytest.mark.parametrize(("since", "key"), [(False, "sealed"), (True, "plain")], indirect=["key"])
def test_an_interrupted_one_goes_on(
    service: Service, admin: Administrator, tmp_path: Path, key: tuple[str, ...], since: bool
) -> None:
    """Twice: killed, and ended by hand. In between the volume changes."""
    service.call("Create", Name="v", Opts={"size": "160M"})
    place = mount(service, "v")
    given = list(key)
    if since:
        admin.run("backup", "v", "--to", str(tmp_path / "base"), *key)
        given += ["--since", str(tmp_path / "base")]
    early, late = os.urandom(60 * MEBIBYTE), os.urandom(60 * MEBIBYTE)
    (place / "early").write_bytes(early)
    os.sync()
    (place / "late").write_bytes(late)
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    words = ["backup", "v", "--to", str(out), *given]
    argv = [*INTERRUPTIBLE, str(PYVOL), *words, "--state-dir", str(service.state_dir)]
    for least, signalled in ((20, signal.SIGKILL), (40, signal.SIGINT)):
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as backup:
            until(partial.exists, "the file")
            while partial.stat().st_size < least * MEBIBYTE:
                assert backup.poll() is None
            backup.send_signal(signalled)
            said = backup.communicate()[1]
    assert said == f"pyvol: the same command goes on with {partial}; or delete it\n"
    reached = partial.read_bytes()
    with partial.open("ab") as file:
        file.write(b"half a frame")
    (place / "late").unlink()
    os.sync()
    admin.run("trim", "v")
    (place / "after").write_text("after")
    assert "is of the volume v; delete it" in _other(service, admin, out, key)
    said = admin.run(*words)
    assert not partial.exists()
    # What was there is not written again; but for the frame that was cut off.
    assert out.read_bytes().startswith(reached[: -2 * MEBIBYTE])
    assert out.stat().st_size < len(reached) + 64 * MEBIBYTE
    chain = [str(tmp_path / "base"), str(out)] if since else [str(out)]
    assert content(admin.run("restore", *chain, "--as", "w", *key)) == content(said)
    copy = mount(service, "w")
    assert sorted(path.name for path in copy.iterdir()) == ["after", "early"]
    assert (copy / "early").read_bytes() == early
    if not since:
        admin.run("backup", "w", "--to", str(tmp_path / "next"), "--since", str(out), *key)
        assert (tmp_path / "next").stat().st_size < 5 * MEBIBYTE


def _other(service: Service, admin: Administrator, out: Path, key: tuple[str, ...]) -> str:
    """Return what is said to whoever wants to write another volume's archive there."""
    service.call("Create", Name="u", Opts={"size": "16M"})
    if (out.parent / "base").exists():
        said = admin.error("backup", "u", "--to", str(out), *key)
        assert "is since another archive; delete it" in said
        return "is of the volume v; delete it"
    return admin.error("backup", "u", "--to", str(out), *key)


def test_two_at_once(service: Service, admin: Administrator, tmp_path: Path) -> None:
    service.call("Create", Name="v", Opts={"size": "160M"})
    (mount(service, "v") / "file").write_bytes(os.urandom(100 * MEBIBYTE))
    words = [PYVOL, "backup", "v", "--to", str(tmp_path / "out"), "--state-dir", str(service.state_dir)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as backup:
        until((tmp_path / "out.partial").exists, "the first one")
        assert "another backup is writing it" in admin.error("backup", "v", "--to", str(tmp_path / "out"))
        assert backup.wait(timeout=60) == 0
    admin.run("restore", "--check", str(tmp_path / "out"))
