"""Backing files and their filesystems: made once, whole or not at all, and deleted only on demand."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pluginkit.errors import CommandError, KernelError
from tests.volume.conftest import Kernel
from volplugin.kernel import backing
from volplugin.resources import BackingFile, Filesystem, LoopDevice

SIZE = 16 << 20


@pytest.fixture
def file(kernel: Kernel) -> BackingFile:
    return BackingFile(kernel.volumes / "v" / "image.ext4", SIZE, may_create=True)


@pytest.fixture
def filesystem(file: BackingFile) -> Filesystem:
    return Filesystem(file.path, "ext4", "_data")


def entries(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_a_file_is_sparse_and_whole(kernel: Kernel, file: BackingFile, filesystem: Filesystem) -> None:
    kernel.files.ensure(file)
    kernel.filesystems.ensure(filesystem)
    assert entries(kernel.volumes) == ["v", "v/image.ext4"]
    found = file.path.stat()
    assert found.st_size == SIZE
    assert found.st_blocks * 512 < SIZE / 4
    assert found.st_mode & 0o777 == 0o600
    listing = subprocess.run(["debugfs", "-R", "ls -p /", file.path], capture_output=True, text=True, check=True).stdout
    assert "/040755/0/0/_data/" in listing


@pytest.mark.parametrize("umask", [0, 0o077])
def test_the_tree_is_open_to_all_whatever_the_umask(
    kernel: Kernel, file: BackingFile, filesystem: Filesystem, umask: int
) -> None:
    previous = os.umask(umask)
    try:
        kernel.files.ensure(file)
        kernel.filesystems.ensure(filesystem)
    finally:
        os.umask(previous)
    listing = subprocess.run(["debugfs", "-R", "ls -p /", file.path], capture_output=True, text=True, check=True).stdout
    assert "/040755/0/0/_data/" in listing
    assert "/040755/0/0/./" in listing


def test_twice_is_once(kernel: Kernel, file: BackingFile, filesystem: Filesystem) -> None:
    kernel.files.ensure(file)
    kernel.filesystems.ensure(filesystem)
    first = (file.path.stat().st_ino, file.path.stat().st_mtime_ns, file.path.read_bytes())
    kernel.files.ensure(file)
    kernel.filesystems.ensure(filesystem)
    assert (file.path.stat().st_ino, file.path.stat().st_mtime_ns, file.path.read_bytes()) == first


def test_removal_leaves_nothing_and_may_be_repeated(kernel: Kernel, file: BackingFile, filesystem: Filesystem) -> None:
    kernel.files.ensure(file)
    kernel.filesystems.ensure(filesystem)
    for _ in range(2):
        kernel.filesystems.remove(filesystem)
        kernel.files.remove(file)
        assert entries(kernel.volumes) == [".trash"]


def test_a_creation_that_was_cut_short_starts_anew(kernel: Kernel, file: BackingFile, filesystem: Filesystem) -> None:
    kernel.files.ensure(file)
    new = file.path.with_name("image.ext4.new")
    # As after a death in the middle of formatting: some of it is written, and the tree to fill it with lies about.
    with new.open("r+b") as half:
        half.seek(4096)
        half.write(b"half a filesystem")
    (file.path.parent / "tree.new" / "_data").mkdir(parents=True)
    with pytest.raises(KernelError, match="there is data in it"):
        kernel.filesystems.ensure(filesystem)
    assert b"half a filesystem" in new.read_bytes()
    assert [have.key for have in kernel.files.owned()] == [file.key]
    kernel.files.ensure(file)
    kernel.filesystems.ensure(filesystem)
    assert entries(kernel.volumes) == ["v", "v/image.ext4"]
    assert list(kernel.files.owned()) == []


def test_what_a_creation_left_can_be_removed(kernel: Kernel, file: BackingFile) -> None:
    kernel.files.ensure(file)
    [left] = kernel.files.owned()
    kernel.files.remove(left)
    assert entries(kernel.volumes) == [".trash"]


def test_a_deletion_that_was_cut_short_goes_on(kernel: Kernel, file: BackingFile, filesystem: Filesystem) -> None:
    kernel.files.ensure(file)
    kernel.filesystems.ensure(filesystem)
    (kernel.volumes / ".trash").mkdir()
    file.path.parent.rename(kernel.volumes / ".trash" / "v")
    [left] = kernel.files.owned()
    assert left.key != file.key
    kernel.files.remove(left)
    assert entries(kernel.volumes) == [".trash"]


def test_a_deletion_replaces_what_an_earlier_one_left(
    kernel: Kernel, file: BackingFile, filesystem: Filesystem
) -> None:
    (kernel.volumes / ".trash" / "v" / "more").mkdir(parents=True)
    kernel.files.ensure(file)
    kernel.filesystems.ensure(filesystem)
    kernel.files.remove(file)
    assert entries(kernel.volumes) == [".trash"]


def test_a_finished_file_is_nobodys_garbage(kernel: Kernel, file: BackingFile, filesystem: Filesystem) -> None:
    kernel.files.ensure(file)
    kernel.filesystems.ensure(filesystem)
    (file.path.parent / "image.ext4.new").touch()
    assert list(kernel.files.owned()) == []
    assert backing.finished(kernel.volumes) == ["v"]


def test_a_lost_file_is_not_made_anew(kernel: Kernel, file: BackingFile) -> None:
    told = BackingFile(file.path, SIZE, may_create=False)
    with pytest.raises(KernelError, match="is its disk mounted"):
        kernel.files.ensure(told)
    assert not kernel.volumes.exists()
    kernel.files.remove(told)


def test_a_file_of_another_size_is_told(kernel: Kernel, file: BackingFile) -> None:
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(b"short")
    with pytest.raises(KernelError, match="it has 5 bytes and should have"):
        kernel.files.ensure(file)
    assert file.path.read_bytes() == b"short"


@pytest.mark.parametrize("position", [0, 1024, SIZE - 1])
def test_a_file_with_any_data_is_never_formatted(
    kernel: Kernel, file: BackingFile, filesystem: Filesystem, position: int
) -> None:
    kernel.files.ensure(file)
    new = file.path.with_name("image.ext4.new")
    with new.open("r+b") as data:
        data.seek(position)
        data.write(b"\0")  # A zero is data, too: it may be the user's.
    before = new.read_bytes()
    with pytest.raises(KernelError, match="there is data in it"):
        kernel.filesystems.ensure(filesystem)
    assert new.read_bytes() == before


def test_a_filesystem_that_cannot_be_made_is_not_taken_for_one(kernel: Kernel, file: BackingFile) -> None:
    tiny = BackingFile(file.path, 4096, may_create=True)
    kernel.files.ensure(tiny)
    with pytest.raises(CommandError, match=r"cannot run mkfs\.ext4"):
        kernel.filesystems.ensure(Filesystem(file.path, "ext4", "_data"))
    assert not file.path.exists()
    kernel.files.remove(tiny)
    assert entries(kernel.volumes) == [".trash"]


def test_an_attached_file_is_not_deleted(kernel: Kernel, file: BackingFile, filesystem: Filesystem) -> None:
    kernel.files.ensure(file)
    kernel.filesystems.ensure(filesystem)
    device = LoopDevice(file.path)
    kernel.devices.ensure(device)
    with pytest.raises(KernelError, match="Device or resource busy"):
        kernel.files.remove(file)
    assert file.path.exists()
    kernel.devices.remove(device)
    kernel.files.remove(file)
    assert not file.path.exists()


def test_removal_frees_the_disk(kernel: Kernel, file: BackingFile) -> None:
    kernel.files.ensure(file)
    new = file.path.with_name("image.ext4.new")
    new.write_bytes(os.urandom(SIZE))
    os.sync()
    before = os.statvfs(kernel.volumes)
    kernel.files.remove(file)
    os.sync()
    after = os.statvfs(kernel.volumes)
    # Others write to this disk as well; half of what was freed must show.
    assert (after.f_bfree - before.f_bfree) * after.f_frsize > SIZE / 2
