"""Each kind of filesystem on the real kernel: made, mounted, recovered after a power cut, left alone when damaged."""

from __future__ import annotations

import errno
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pluginkit.errors import KernelError
from tests.volume.conftest import Kernel, attached_below, mounted_below
from volplugin.options import MIN_SIZE_BYTES, Loop
from volplugin.plan import Layout
from volplugin.records import Attachment, Volume
from volplugin.resources import BackingFile, Filesystem, LoopDevice, Mount, Owner

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


def test_a_large_ext4_grows_further_than_blocks_were_set_aside_for(kernel: Kernel) -> None:
    """From 2 GiB to 1.5 TiB, where there are blocks for 1 TiB: so few that making it takes little of the disk."""
    path = kernel.volumes / "v" / "image.ext4"
    kernel.files.ensure(BackingFile(path, 2 << 30, may_create=True))
    kernel.filesystems.ensure(Filesystem(path, "ext4", "_data"))
    assert path.stat().st_blocks * 512 < 1 << 20
    os.truncate(path, 3 << 39)
    kernel.devices.ensure(LoopDevice(path))
    want = Mount(kernel.mount_root / "v", path, "ext4", "_data")
    mounted(kernel, want)
    visible = os.statvfs(want.target)
    assert visible.f_blocks * visible.f_frsize == 3 << 39
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


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_one_that_is_allocated_stays_so(kernel: Kernel, fs: str) -> None:
    volume = Volume("v", Loop(size=MIN_SIZE_BYTES[fs], fs=fs, sparse=False, sector=4096))
    layout = Layout(kernel.volumes, kernel.mount_root)

    def is_allocated() -> bool:
        return want.path.stat().st_blocks * 512 >= MIN_SIZE_BYTES[fs]

    def prepare() -> None:
        file, filesystem = layout.plan_volume(volume, None)
        kernel.files.ensure(file)  # type: ignore[arg-type]
        kernel.filesystems.ensure(filesystem)  # type: ignore[arg-type]

    prepare()
    device, want = layout.plan_attachment(Attachment().mounted("c", "e"), volume)
    assert isinstance(device, LoopDevice)
    assert isinstance(want, Mount)
    assert is_allocated()
    kernel.devices.ensure(device)
    kernel.mounts.ensure(want)
    assert kernel.usage.space(want)["direct_io"] is True
    (data(want) / "file").write_bytes(os.urandom(1 << 20))
    (data(want) / "file").unlink()
    released(kernel, want)
    assert is_allocated()
    subprocess.run(["fallocate", "--punch-hole", "--offset", "8M", "--length", "64k", want.path], check=True)
    prepare()
    assert is_allocated()


def test_what_does_not_fit_is_refused_at_once(kernel: Kernel) -> None:
    kernel.volumes.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16M", "none", kernel.volumes], check=True)
    try:
        before = os.statvfs(kernel.volumes).f_bfree
        file = BackingFile(kernel.volumes / "v" / "image.ext4", 17 << 20, may_create=True, sparse=False)
        with pytest.raises(KernelError, match=r"cannot allocate .*No space left.*sparse=true takes") as no:
            kernel.files.ensure(file)
        assert no.value.code == errno.ENOSPC
        assert os.statvfs(kernel.volumes).f_bfree == before, "the disk was not filled to find out"
        kernel.files.remove(file)
        assert not file.path.parent.exists()
    finally:
        subprocess.run(["umount", kernel.volumes], check=True)


MKFS = {
    "ext4": ("-i", "8192", "-m", "1", "-O", "encrypt,^metadata_csum", "-L", "data"),
    "xfs": ("-i", "size=1024", "-m", "rmapbt=1,reflink=1", "-n", "size=8k", "-d", "agcount=4", "-L", "data"),
    "btrfs": ("-m", "single", "-n", "16k", "--csum", "xxhash", "-L", "data"),
}


@pytest.mark.parametrize("mode", [0o700, 0o1777, 0o2770, 0o6755])
@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_the_root_is_whose_it_shall_be_and_mkfs_is_told_more(kernel: Kernel, fs: str, mode: int) -> None:
    path = kernel.volumes / "v" / f"image.{fs}"
    kernel.files.ensure(BackingFile(path, MIN_SIZE_BYTES[fs] * 2, may_create=True))
    kernel.filesystems.ensure(Filesystem(path, fs, "_data", True, MKFS[fs], Owner(4294967294, 33, mode)))
    label = subprocess.run(["blkid", "-s", "LABEL", "-o", "value", path], capture_output=True, text=True, check=True)
    assert label.stdout == "data\n"
    want = Mount(kernel.mount_root / "v", path, fs, "_data")
    mounted(kernel, want)
    found = data(want).stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (4294967294, 33, mode)
    assert want.target.stat().st_mode & 0o7777 == 0o755
    released(kernel, want)
    if fs != "btrfs":
        check = ["e2fsck", "-fn", path] if fs == "ext4" else ["xfs_repair", "-n", path]
        subprocess.run(check, check=True, capture_output=True)


def test_how_it_is_mounted(kernel: Kernel, want: Mount) -> None:
    special = ("compress=zstd:3",) if want.fs == "btrfs" else ()
    want = replace(want, options=("noexec", "noatime", "discard", *special, "ro"))
    kernel.mounts.ensure(want)
    flags = os.statvfs(want.target).f_flag
    for flag in (os.ST_NOEXEC, os.ST_NOATIME, os.ST_NOSUID, os.ST_NODEV, os.ST_RDONLY):
        assert flags & flag
    [line] = [line for line in Path("/proc/mounts").read_text().splitlines() if str(want.target) in line]
    for word in ("discard", *special):
        assert word in line
    with pytest.raises(OSError, match="Read-only"):
        (data(want) / "file").touch()
    released(kernel, want)


@pytest.mark.parametrize(("sector", "is_direct"), [(512, False), (4096, True)])
def test_the_hosts_cache_is_passed_by_where_the_disk_allows(
    kernel: Kernel, tmp_path: Path, sector: int, is_direct: bool
) -> None:
    """The host's disk is one with sectors of 4096 bytes."""
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", disk], check=True)
    argv = ["losetup", "--find", "--show", "--sector-size", "4096", disk]
    loop = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    kernel.volumes.mkdir()
    subprocess.run(["mount", loop, kernel.volumes], check=True)
    try:
        path = kernel.volumes / "v" / "image.ext4"
        kernel.files.ensure(BackingFile(path, 16 << 20, may_create=True))
        kernel.filesystems.ensure(Filesystem(path, "ext4", "_data"))
        kernel.devices.ensure(LoopDevice(path, sector))
        want = Mount(kernel.mount_root / "v", path, "ext4", "_data")
        kernel.mounts.ensure(want)
        (data(want) / "file").write_text("works")
        assert kernel.usage.space(want)["direct_io"] is is_direct
        released(kernel, want)
    finally:
        subprocess.run(["umount", kernel.volumes], check=True)
        subprocess.run(["losetup", "--detach", loop], check=True)
