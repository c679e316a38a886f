"""Where a key may lie, what is none, and programs that print one."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pluginkit.errors import PluginError
from volplugin.kernel.encryption.keys import Keys
from volplugin.resources import KeySource

KEY = bytes(range(64))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    (tmp_path / "k").write_bytes(KEY)
    (tmp_path / "k").chmod(0o600)
    return Keys((tmp_path,), program_timeout_s=0.5)


def program(directory: Path, script: str) -> KeySource:
    path = directory / "get"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return KeySource(path, (str(path), "v"))


def test_it_is_there_for_a_while_and_then_nowhere(keys: Keys, tmp_path: Path) -> None:
    for source in (KeySource(tmp_path / "k"), program(tmp_path, f'test "$1" = v && cat {tmp_path}/k')):
        keys.check(source)
        with keys.opened(source) as key:
            assert key == KEY
        assert key == bytes(64)


def as_link(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "No such file or directory (ENOENT); without its key nobody reads the volume"),
    "for the group to read": (lambda path: path.chmod(0o640), "not only root may read it; chmod 600"),
    "for all to read": (lambda path: path.chmod(0o604), "not only root may read it; chmod 600"),
    "somebody's": (lambda path: os.chown(path, 1234, 0), "it belongs to user 1234; chown root"),
    "empty": (lambda path: path.write_bytes(b""), "that has 0 bytes; a key is 32 to 64 random bytes"),
    "short": (lambda path: path.write_bytes(bytes(31)), "that has 31 bytes; a key is 32 to 64"),
    "long": (lambda path: path.write_bytes(bytes(65)), "that has more than 64 bytes; a key is 32 to 64"),
    "a link": (as_link, "symbolic links are not followed"),
    "a directory": (as_directory, "it is no regular file"),
    "a pipe": (as_pipe, "it is no regular file"),
}


@pytest.mark.parametrize(("spoil", "said"), SPOILT.values(), ids=SPOILT.keys())
def test_what_is_no_key(keys: Keys, tmp_path: Path, spoil: Callable[[Path], object], said: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    spoil(tmp_path / "k")
    with pytest.raises(PluginError, match=re.escape(said)), keys.opened(KeySource(tmp_path / "k")):
        pass
    if "bytes" not in said:
        with pytest.raises(PluginError, match=re.escape(said)):
            keys.check(KeySource(tmp_path / "k"))


def test_keys_are_below_the_administrators_directories_alone(keys: Keys) -> None:
    shadow = Path("/etc/shadow")
    for source in (KeySource(shadow), KeySource(shadow, (str(shadow),))):
        with pytest.raises(PluginError, match="it is not below a directory of keys"):
            keys.check(source)


SCRIPTS = {
    "short": ("printf too-short", "that has 9 bytes; a key is 32 to 64"),
    "endless": ("exec cat /dev/zero", "that has more than 64 bytes"),
    "failure": ("echo the vault is locked >&2; exit 3", "the vault is locked"),
    "silent": ("exec sleep 60", "no end after 0.5 s, killed"),
    "done but not ended": ("head -c 64 /dev/zero; exec >&-; exec sleep 60", "no end after 0.5 s, killed"),
}


@pytest.mark.parametrize(("script", "said"), SCRIPTS.values(), ids=SCRIPTS.keys())
def test_a_program_that_has_no_key(keys: Keys, tmp_path: Path, script: str, said: str) -> None:
    before = time.monotonic()
    with pytest.raises(PluginError, match=re.escape(said)), keys.opened(program(tmp_path, script)):
        pass
    assert time.monotonic() - before < 30


def test_a_program_that_others_may_change_is_not_run(keys: Keys, tmp_path: Path) -> None:
    source = program(tmp_path, f"touch {tmp_path}/ran")
    source.path.chmod(0o722)
    with pytest.raises(PluginError, match="not only root may write to it; chmod go-w"), keys.opened(source):
        pass
    assert not (tmp_path / "ran").exists()
