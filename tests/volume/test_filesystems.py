"""Each kind of filesystem on the real kernel: made, mounted, recovered after a power cut, left alone when damaged."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pluginkit.errors import KernelError
from tests.volume.conftest import Kernel, attached_below, mounted_below
from volplugin.options import MIN_SIZE_BYTES
from volplugin.resources import BackingFile, Filesystem, LoopDevice, Mount

# Where each of them keeps its first superblock, and how much must be lost for its copies not to help.
SUPERBLOCK = {"ext4": 1024, "xfs": 0, "btrfs": 64 << 10}


@pytest.fixture(params=["ext4", "xfs", "btrfs"])
def want(kernel: Kernel, request: pytest.FixtureRequest) -> Mount:
    """A mount of the smallest volume, for which everything but itself is there."""
    return prepared(kernel, "v", request.param)


def prepared(kernel: Kernel, name: str, fs: str) -> Mount:
    path = kernel.volumes / name / f"image.{fs}"
    kernel.files.ensure(BackingFile(path, MIN_SIZE_BYTES[fs], may_create=True))
    kernel.filesystems.ensure(Filesystem(path, fs, "_data"))
    kernel.devices.ensure(LoopDevice(path))
    return Mount(kernel.mount_root / name, path, fs, "_data")


def data(want: Mount) -> Path:
    return want.target / want.tree


def released(kernel: Kernel, want: Mount) -> None:
    kernel.mounts.remove(want)
    kernel.devices.remove(LoopDevice(want.path))
    assert kernel.devices.wait_released(want.path)
    assert attached_below(kernel.volumes) == []
    assert mounted_below(kernel.mount_root) == []


def mounted(kernel: Kernel, want: Mount) -> None:
    kernel.devices.ensure(LoopDevice(want.path))
    kernel.mounts.ensure(want)


def test_it_is_made_sparse_and_its_tree_is_empty(kernel: Kernel, want: Mount) -> None:
    assert [path.name for path in want.path.parent.iterdir()] == [want.path.name]
    assert want.path.stat().st_size == MIN_SIZE_BYTES[want.fs]
    assert want.path.stat().st_blocks * 512 < MIN_SIZE_BYTES[want.fs] / 2
    for _ in range(2):
        mounted(kernel, want)
        assert mounted_below(kernel.mount_root) == [str(want.target)]
    assert list(data(want).iterdir()) == []
    for directory in (want.target, data(want)):
        found = directory.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (0, 0, 0o755)
    released(kernel, want)


def test_data_is_there_the_next_time(kernel: Kernel, want: Mount) -> None:
    for text in ("first", "second"):
        mounted(kernel, want)
        with (data(want) / "file").open("a") as file:
            file.write(text)
        released(kernel, want)
    mounted(kernel, want)
    assert (data(want) / "file").read_text() == "firstsecond"


def test_the_size_is_a_limit(kernel: Kernel, want: Mount) -> None:
    kernel.mounts.ensure(want)
    with (data(want) / "big").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        os.posix_fallocate(file.fileno(), 0, MIN_SIZE_BYTES[want.fs])
    assert want.path.stat().st_size == MIN_SIZE_BYTES[want.fs]


def test_synced_data_is_there_after_a_power_cut(kernel: Kernel, want: Mount) -> None:
    kernel.mounts.ensure(want)
    with (data(want) / "file").open("w") as file:
        file.write("synced")
        file.flush()
        os.fsync(file.fileno())
    (data(want) / "other").write_text("not synced")
    crashed = want.path.with_name("crashed")
    subprocess.run(["cp", "--sparse=always", want.path, crashed], check=True)  # The power fails now.
    released(kernel, want)
    crashed.rename(want.path)
    mounted(kernel, want)
    assert (data(want) / "file").read_text() == "synced"


def test_a_copy_is_mounted_beside_its_original(kernel: Kernel, want: Mount) -> None:
    kernel.mounts.ensure(want)
    (data(want) / "file").write_text("original")
    released(kernel, want)
    copy = Mount(kernel.mount_root / "copy", kernel.volumes / "copy" / want.path.name, want.fs, want.tree)
    copy.path.parent.mkdir()
    subprocess.run(["cp", "--sparse=always", want.path, copy.path], check=True)
    for each in (want, copy):
        mounted(kernel, each)
    (data(copy) / "file").write_text("copy")
    assert (data(want) / "file").read_text() == "original"
    kernel.mounts.remove(copy)
    released(kernel, want)


def test_one_that_cannot_be_mounted_is_left_as_it_is(kernel: Kernel, want: Mount) -> None:
    released(kernel, want)
    with want.path.open("r+b") as image:
        image.seek(SUPERBLOCK[want.fs])
        image.write(bytes(4096))
    before = want.path.read_bytes()
    kernel.devices.ensure(LoopDevice(want.path))
    with pytest.raises(KernelError, match="repair by hand"):
        kernel.mounts.ensure(want)
    assert want.path.read_bytes() == before
    released(kernel, want)


def test_use_in_a_container_is_seen(kernel: Kernel, want: Mount, tmp_path: Path) -> None:
    kernel.mounts.ensure(want)
    (tmp_path / "place").mkdir()
    script = f"mount --bind {data(want)} {tmp_path}/place; echo ready; exec sleep 60"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE) as container:
        assert container.stdout is not None
        assert container.stdout.readline() == b"ready\n"
        [holder] = kernel.usage.holders(want)
        assert f"mounted at {tmp_path}/place in the mount namespace" in holder
        container.kill()
    released(kernel, want)
