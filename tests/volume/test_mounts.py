"""Mounts: there, nothing else there, and gone everywhere when they go."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pluginkit.errors import KernelError, StateError
from tests.volume.conftest import Kernel, attached_below, mounted_below
from volplugin.kernel.mounts import claim_root
from volplugin.resources import BackingFile, BindMount, Filesystem, LoopDevice, Mount

SIZE = 16 << 20


@pytest.fixture
def want(kernel: Kernel) -> Mount:
    """A mount for which everything but itself is there."""
    path = kernel.volumes / "v" / "image.ext4"
    kernel.files.ensure(BackingFile(path, SIZE, may_create=True))
    kernel.filesystems.ensure(Filesystem(path, "ext4", "_data"))
    kernel.devices.ensure(LoopDevice(path))
    return Mount(kernel.mount_root / "v", path, "ext4", "_data")


def data(want: Mount) -> Path:
    return want.target / want.tree


def is_released(kernel: Kernel, want: Mount) -> bool:
    return kernel.devices.wait_released(want.path) and not attached_below(kernel.volumes)


@contextmanager
def namespace(*options: str) -> Iterator[subprocess.Popen[str]]:
    """Another mount namespace is there, with a process in it that runs what is written to its stdin, line by line."""
    with subprocess.Popen(
        ["unshare", "--mount", *options, "sh", "-c", "echo ready; while read line; do eval $line; echo $?; done"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def run(process: subprocess.Popen[str], command: str) -> None:
    """The command has succeeded in the process's namespace."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(command + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "0\n"


def test_twice_is_once(kernel: Kernel, want: Mount) -> None:
    kernel.mounts.ensure(want)
    first = mounted_below(kernel.mount_root)
    kernel.mounts.ensure(want)
    assert mounted_below(kernel.mount_root) == first
    assert list(data(want).iterdir()) == []
    flags = os.statvfs(want.target).f_flag
    assert flags & os.ST_NOSUID
    assert flags & os.ST_NODEV


def test_removal_leaves_nothing_and_may_be_repeated(kernel: Kernel, want: Mount) -> None:
    kernel.mounts.ensure(want)
    for _ in range(2):
        kernel.mounts.remove(want)
        assert mounted_below(kernel.mount_root) == []
        assert not want.target.exists()
    assert is_released(kernel, want)


def test_the_size_is_what_was_asked_for_and_a_limit(kernel: Kernel, want: Mount) -> None:
    kernel.mounts.ensure(want)
    visible = os.statvfs(want.target)
    assert visible.f_blocks * visible.f_frsize == SIZE
    with (data(want) / "big").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        os.posix_fallocate(file.fileno(), 0, SIZE + 1)
    assert want.path.stat().st_size == SIZE


def test_data_is_there_the_next_time(kernel: Kernel, want: Mount) -> None:
    kernel.mounts.ensure(want)
    (data(want) / "file").write_text("kept")
    kernel.mounts.remove(want)
    kernel.devices.remove(LoopDevice(want.path))
    kernel.devices.ensure(LoopDevice(want.path))
    kernel.mounts.ensure(want)
    assert (data(want) / "file").read_text() == "kept"


def test_what_others_unmounted_is_mounted_again(kernel: Kernel, want: Mount) -> None:
    kernel.mounts.ensure(want)
    (data(want) / "file").write_text("kept")
    subprocess.run(["umount", want.target], check=True)
    assert kernel.devices.wait_released(want.path)
    kernel.devices.ensure(LoopDevice(want.path))
    kernel.mounts.ensure(want)
    assert (data(want) / "file").read_text() == "kept"
    assert mounted_below(kernel.mount_root) == [str(want.target)]


def test_what_others_mounted_in_its_place_is_replaced(kernel: Kernel, want: Mount) -> None:
    want.target.mkdir()
    for _ in range(2):
        subprocess.run(["mount", "-t", "tmpfs", "none", want.target], check=True)
    kernel.mounts.ensure(want)
    assert data(want).is_dir()
    kernel.mounts.remove(want)
    assert mounted_below(kernel.mount_root) == []


def test_a_mount_point_in_use_is_kept_and_its_users_named(kernel: Kernel, want: Mount) -> None:
    kernel.mounts.ensure(want)
    with subprocess.Popen(["sleep", "60"], cwd=data(want)) as user:
        with pytest.raises(KernelError, match=rf"process {user.pid} \(sleep\)") as refused:
            kernel.mounts.remove(want)
        assert refused.value.code == errno.EBUSY
        assert data(want).is_dir()
        user.kill()
    kernel.mounts.remove(want)


def test_files_in_a_bare_mount_point_are_left_alone(kernel: Kernel, want: Mount) -> None:
    want.target.mkdir()
    (want.target / "stray").write_text("whose?")
    kernel.mounts.ensure(want)
    kernel.mounts.remove(want)
    assert (want.target / "stray").read_text() == "whose?"


@pytest.mark.parametrize("propagation", ["private", "slave", "shared"])
def test_an_unmount_reaches_namespaces_that_copied_the_mount(kernel: Kernel, want: Mount, propagation: str) -> None:
    kernel.mounts.ensure(want)
    with namespace("--propagation", propagation) as other:
        run(other, f"test -d {data(want)}")
        assert kernel.usage.holders(want) == [], "a copy of our mount is no use of the volume"
        kernel.mounts.remove(want)
        kernel.devices.remove(LoopDevice(want.path))
        assert is_released(kernel, want)
        run(other, f"test ! -e {data(want)}")


def test_a_mount_below_a_shared_one_reaches_other_namespaces(kernel: Kernel, want: Mount) -> None:
    subprocess.run(["mount", "--bind", kernel.mount_root, kernel.mount_root], check=True)
    subprocess.run(["mount", "--make-shared", kernel.mount_root], check=True)
    with namespace("--propagation", "slave") as other:
        kernel.mounts.ensure(want)
        run(other, f"test -d {data(want)}")
        kernel.mounts.remove(want)
        assert is_released(kernel, want)


def test_a_process_in_a_copy_of_a_shared_mount_keeps_it_busy_and_is_named(
    kernel: Kernel, want: Mount, tmp_path: Path
) -> None:
    """As where a managed plugin's mounts are propagated to: the host knows them by another path."""
    subprocess.run(["mount", "--bind", kernel.mount_root, kernel.mount_root], check=True)
    subprocess.run(["mount", "--make-shared", kernel.mount_root], check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with namespace("--propagation", "unchanged") as other:
        run(other, f"mount --rbind {kernel.mount_root} {elsewhere}")
        kernel.mounts.ensure(want)
        run(other, f"cd {elsewhere / want.target.name / want.tree}")
        with pytest.raises(KernelError, match=rf"EBUSY.*in use by process {other.pid} \(sh\)"):
            kernel.mounts.remove(want)
    kernel.mounts.remove(want)
    assert is_released(kernel, want)


def test_a_process_in_a_copy_keeps_the_device_and_is_named(
    kernel: Kernel, want: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.mounts.ensure(want)
    (data(want) / "file").write_text("kept")
    with namespace() as other:
        run(other, f"cd {data(want)}")
        kernel.mounts.remove(want)
        kernel.devices.remove(LoopDevice(want.path))
        assert f"in use by process {other.pid} (sh)" in caplog.text
        with pytest.raises(KernelError, match=rf"in use by process {other.pid} \(sh\)"):
            kernel.files.remove(BackingFile(want.path, SIZE, may_create=False))
        # Mounted again it is the same filesystem on the same device, not a second one on the same file.
        kernel.devices.ensure(LoopDevice(want.path))
        kernel.mounts.ensure(want)
        assert (data(want) / "file").read_text() == "kept"
        assert len(attached_below(kernel.volumes)) == 1
        kernel.mounts.remove(want)
    assert is_released(kernel, want)


def test_a_containers_mount_is_use_and_is_named(kernel: Kernel, want: Mount, tmp_path: Path) -> None:
    kernel.mounts.ensure(want)
    assert kernel.usage.holders(want) == []
    place = tmp_path / "in container"
    place.mkdir()
    with namespace() as container:
        run(container, f"mount --bind {data(want)} '{place}'")
        run(container, f"umount -l {want.target}")
        [holder] = kernel.usage.holders(want)
        assert f"mounted at {place} in the mount namespace mnt:[" in holder
        assert f"process {container.pid} (sh)" in holder
        kernel.mounts.remove(want)
        assert len(kernel.usage.holders(want)) == 1, "unmounted by us, it is still in use there"
    assert is_released(kernel, want)


def test_a_subdirectory_in_a_container_is_use(kernel: Kernel, want: Mount, tmp_path: Path) -> None:
    kernel.mounts.ensure(want)
    (data(want) / "sub").mkdir()
    (tmp_path / "place").mkdir()
    with namespace() as container:
        run(container, f"mount --bind {data(want)}/sub {tmp_path}/place")
        assert len(kernel.usage.holders(want)) == 1
    assert kernel.usage.holders(want) == []


def test_an_unclean_filesystem_is_checked_and_mounted(
    kernel: Kernel, want: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.mounts.ensure(want)
    (data(want) / "file").write_text("synced")
    os.sync()
    crashed = want.path.with_name("crashed")
    crashed.write_bytes(want.path.read_bytes())  # What is on the disk when the power fails now.
    kernel.mounts.remove(want)
    assert is_released(kernel, want)
    crashed.rename(want.path)
    kernel.devices.ensure(LoopDevice(want.path))
    kernel.mounts.ensure(want)
    assert "was not unmounted cleanly" in caplog.text
    assert (data(want) / "file").read_text() == "synced"


@pytest.mark.parametrize("damage", ["superblock", "root directory"])
def test_a_damaged_filesystem_is_left_alone_and_told(kernel: Kernel, want: Mount, damage: str) -> None:
    with want.path.open("r+b") as image:
        if damage == "superblock":
            image.seek(1024)
            image.write(bytes(1024))
        else:
            subprocess.run(["debugfs", "-w", "-R", "clri <2>", want.path], check=True, capture_output=True)
            image.seek(1024 + 58)
            image.write(b"\2\0")  # It had errors: to be checked.
    kernel.devices.remove(LoopDevice(want.path))
    kernel.devices.ensure(LoopDevice(want.path))
    before = want.path.stat().st_blocks
    with pytest.raises(KernelError, match="needs repair by hand") as failed:
        kernel.mounts.ensure(want)
    assert failed.value.code == errno.EUCLEAN
    assert want.path.stat().st_blocks == before
    kernel.mounts.remove(want)
    assert is_released(kernel, want), "a device that could not be mounted must not stay"


def test_mount_points_are_ours_and_the_mark_is_not_one(kernel: Kernel, want: Mount) -> None:
    assert list(kernel.mounts.owned()) == []
    kernel.mounts.ensure(want)
    (kernel.mount_root / "bare").mkdir()
    found = {have.target.name: have for have in kernel.mounts.owned()}
    assert found.keys() == {"bare", "v"}
    assert found["v"].key == want.key
    for have in found.values():
        kernel.mounts.remove(have)
    assert list(kernel.mounts.owned()) == []


def test_a_mount_root_is_not_taken_from_others(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for _ in range(2):
        claim_root(ours)
    (theirs / "something").mkdir(parents=True)
    with pytest.raises(StateError, match="it is not empty"):
        claim_root(theirs)


@pytest.fixture
def bound(kernel: Kernel) -> BindMount:
    source = kernel.allowed / "data"
    source.mkdir()
    (source / "file").write_text("the user's")
    return BindMount(kernel.mount_root / "b", source)


def test_a_directory_is_mounted_once_and_left_as_it_was(kernel: Kernel, bound: BindMount) -> None:
    kernel.mounts.ensure(bound)
    first = mounted_below(kernel.mount_root)
    kernel.mounts.ensure(bound)
    assert mounted_below(kernel.mount_root) == first
    assert (bound.target / "file").read_text() == "the user's"
    flags = os.statvfs(bound.target).f_flag
    assert flags & os.ST_NOSUID
    assert flags & os.ST_NODEV
    for _ in range(2):
        kernel.mounts.remove(bound)
    assert not bound.target.exists()
    assert (bound.source / "file").read_text() == "the user's"


def test_a_read_only_directory_stays_read_only(kernel: Kernel, bound: BindMount) -> None:
    subprocess.run(["mount", "--bind", "-o", "ro,noexec", bound.source, bound.source], check=True)
    kernel.mounts.ensure(bound)
    flags = os.statvfs(bound.target).f_flag
    assert flags & os.ST_RDONLY
    assert flags & os.ST_NOEXEC
    assert flags & os.ST_NODEV


def test_a_directory_is_mounted_as_it_was_asked_for(kernel: Kernel, bound: BindMount) -> None:
    kernel.mounts.ensure(replace(bound, options=("noexec", "noatime", "ro")))
    flags = os.statvfs(bound.target).f_flag
    for flag in (os.ST_NOEXEC, os.ST_NOATIME, os.ST_NOSUID, os.ST_NODEV, os.ST_RDONLY):
        assert flags & flag
    assert not os.statvfs(bound.source).f_flag & os.ST_RDONLY
    (bound.source / "file").write_text("the user still may")


def test_a_replaced_directory_is_mounted_in_the_old_ones_place(kernel: Kernel, bound: BindMount) -> None:
    kernel.mounts.ensure(bound)
    bound.source.rename(kernel.allowed / "old")
    bound.source.mkdir()
    kernel.mounts.ensure(bound)
    assert list(bound.target.iterdir()) == []


def test_a_bound_directory_in_a_container_is_use(kernel: Kernel, bound: BindMount, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    kernel.mounts.ensure(bound)
    assert kernel.usage.holders(bound) == []
    kernel.mounts.ensure(BindMount(kernel.mount_root / "same", bound.source))
    assert kernel.usage.holders(bound) == [], "another volume's own mount is no use"
    with namespace() as container:
        run(container, f"mount --bind {bound.target} {tmp_path}/place")
        assert len(kernel.usage.holders(bound)) == 1
