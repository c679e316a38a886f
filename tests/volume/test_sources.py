"""Directories of the host: only below an allowed root, whatever links are put in the way and whenever."""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from pluginkit.errors import BadRequest, KernelError
from tests.volume.conftest import Kernel
from volplugin.kernel.sources import SourceDirectories
from volplugin.resources import BindMount, Owner, SourceDirectory


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "shadow").write_text("hidden")
    return secret


def test_a_directory_below_the_root_and_the_root_itself(kernel: Kernel) -> None:
    (kernel.allowed / "a" / "b").mkdir(parents=True)
    for path in (kernel.allowed, kernel.allowed / "a", kernel.allowed / "a" / "b"):
        kernel.sources.ensure(SourceDirectory(path))
        with kernel.sources.opened(path) as descriptor:
            assert os.path.samestat(os.fstat(descriptor), path.stat())


def test_without_a_root_nothing_may_be_mounted_and_the_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"\(none\); pyvol serve takes them as --bind-root or in PYVOL_BIND_ROOTS"):
        SourceDirectories(()).ensure(SourceDirectory(tmp_path))


def test_a_directory_elsewhere_is_refused(kernel: Kernel, secret: Path) -> None:
    beside = Path(f"{kernel.allowed}-beside")
    beside.mkdir()
    for path in (secret, beside, Path("/"), Path("/etc"), kernel.allowed.parent):
        with pytest.raises(BadRequest, match="not below a directory that may be mounted"):
            kernel.sources.ensure(SourceDirectory(path))


def test_what_is_no_directory_is_refused(kernel: Kernel) -> None:
    (kernel.allowed / "file").touch()
    for name, message in (("file", "Not a directory"), ("missing", "No such file")):
        with pytest.raises(KernelError, match=message):
            kernel.sources.ensure(SourceDirectory(kernel.allowed / name))
    assert not (kernel.allowed / "missing").exists()


def test_a_missing_directory_is_made_for_its_owner_and_never_touched_again(kernel: Kernel) -> None:
    path = kernel.allowed / "a" / "b"
    want = SourceDirectory(path, may_create=True, with_parents=True, owner=Owner(5, 6, 0o1770))
    previous = os.umask(0o077)
    try:
        kernel.sources.ensure(want)
    finally:
        os.umask(previous)
    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (5, 6, 0o1770)
    assert path.parent.stat().st_mode & 0o7777 == 0o755
    (path / "file").write_text("the user's")
    kernel.sources.ensure(replace(want, owner=Owner(7, 8, 0o700)))
    assert path.stat().st_uid == 5
    kernel.sources.remove(want)
    assert (path / "file").read_text() == "the user's"


def test_only_the_last_directory_is_made_unless_asked(kernel: Kernel) -> None:
    with pytest.raises(KernelError, match="No such file"):
        kernel.sources.ensure(SourceDirectory(kernel.allowed / "a" / "b", may_create=True))
    assert list(kernel.allowed.iterdir()) == []
    kernel.sources.ensure(SourceDirectory(kernel.allowed / "a", may_create=True))
    assert (kernel.allowed / "a").is_dir()


def test_nothing_is_made_outside(kernel: Kernel, secret: Path) -> None:
    (kernel.allowed / "way").symlink_to(secret)
    for path in (kernel.allowed / "way" / "new", kernel.allowed / "way" / "new" / "deep"):
        with pytest.raises(KernelError, match="symbolic links are not followed"):
            kernel.sources.ensure(SourceDirectory(path, may_create=True, with_parents=True))
    with pytest.raises(BadRequest):
        kernel.sources.ensure(SourceDirectory(secret / "new", may_create=True, with_parents=True))
    assert [entry.name for entry in secret.iterdir()] == ["shadow"]


@pytest.mark.parametrize("link", ["absolute", "relative", "inside", "on the way"])
def test_no_link_is_followed(kernel: Kernel, secret: Path, link: str) -> None:
    path = kernel.allowed / "link"
    match link:
        case "absolute":
            path.symlink_to(secret)
        case "relative":
            path.symlink_to("../secret")
        case "inside":
            (kernel.allowed / "real").mkdir()
            path.symlink_to("real")
        case _:
            (kernel.allowed / "way").symlink_to(secret.parent)
            path = kernel.allowed / "way" / "secret"
    with pytest.raises(KernelError, match="symbolic links are not followed"):
        kernel.sources.ensure(SourceDirectory(path))


def test_a_link_put_in_place_of_the_directory_after_the_check(kernel: Kernel, secret: Path) -> None:
    path = kernel.allowed / "data"
    path.mkdir()
    (path / "mine").touch()
    with kernel.sources.opened(path) as descriptor:
        path.rename(kernel.allowed / "moved")
        path.symlink_to(secret)
        assert [entry.name for entry in Path(f"/proc/self/fd/{descriptor}").iterdir()] == ["mine"]


def test_a_race_of_links_never_leads_outside(kernel: Kernel, secret: Path) -> None:
    path, link = kernel.allowed / "data", kernel.allowed / "link"
    path.mkdir()
    link.symlink_to(secret)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            path.rename(kernel.allowed / "aside")
            link.rename(path)
            path.rename(link)
            (kernel.allowed / "aside").rename(path)

    swapping = threading.Thread(target=swap)
    swapping.start()
    want = BindMount(kernel.mount_root / "b", path)
    outcomes: Counter[str] = Counter()

    def try_once() -> bool:
        try:
            kernel.mounts.ensure(want)
        except KernelError:
            outcomes["refused"] += 1
        else:
            outcomes["mounted"] += 1
            assert list(want.target.iterdir()) == []
            kernel.mounts.remove(want)
        return min(outcomes["refused"], outcomes["mounted"]) >= 50

    try:
        while not try_once():
            assert swapping.is_alive()
    finally:
        done.set()
        swapping.join()
