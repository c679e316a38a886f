"""Snapshots, the way back from them, and clones, on the real thing: on a disk with reflinks and on one without."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pluginkit.errors import KernelError
from tests.serving import MORTAL, until
from tests.volume.administrator import Administrator
from tests.volume.conftest import Kernel, attached_below
from tests.volume.serving import Service
from volplugin.kernel.copies.freezing import Freezer, frozen
from volplugin.kernel.copies.snapshots import SnapshotFiles
from volplugin.options import MIN_SIZE_BYTES
from volplugin.resources import BackingFile, Filesystem, LoopDevice, Mount, Origin, SnapshotFile

MEBIBYTE = 1 << 20
FREEZE = """
import sys, time
from pathlib import Path
from volplugin.kernel.copies.freezing import Freezer, frozen
with frozen(Path(sys.argv[1]), float(sys.argv[2])):
    print("frozen", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["without reflinks", "with reflinks"])
def disk(mount_namespace: None, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A directory on such a disk."""
    if request.param == "without reflinks":
        return tmp_path
    image, disk = tmp_path / "disk.xfs", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(2 << 30)
    subprocess.run(["mkfs.xfs", "-q", "-K", "-m", "reflink=1", image], check=True)
    disk.mkdir()
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    return disk


@pytest.fixture
def service(disk: Path) -> Iterator[Service]:
    service = Service(disk, "--reconcile-every", "3600")
    yield service
    service.kill()


def mount(service: Service, name: str) -> Path:
    return Path(service.call("Mount", Name=name, ID="c")["Mountpoint"])


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_a_snapshot_of_a_volume_in_use_and_the_way_back(service: Service, admin: Administrator, fs: str) -> None:
    service.call("Create", Name="v", Opts={"fs": fs, "size": "320M"})
    place = mount(service, "v")
    (place / "file").write_text("before")
    assert admin.run("snapshot", "create", "v@s1") == "v@s1\n"
    (place / "file").write_text("after")
    admin.run("snapshot", "create", "v@s2")
    assert admin.inspect("v")["snapshots"] == ["s1", "s2"]
    assert [line.split()[0] for line in admin.run("snapshot", "ls").splitlines()[1:]] == ["v@s1", "v@s2"]
    assert "cannot restore v: it is mounted; caller c" in admin.error("snapshot", "restore", "v@s1")
    service.call("Unmount", Name="v", ID="c")
    for snapshot, content in (("s1", "before"), ("s2", "after"), ("s1", "before")):
        admin.run("snapshot", "restore", f"v@{snapshot}")
        assert (mount(service, "v") / "file").read_text() == content
        (place / "file").write_text("written since")
        service.kill()
        service.start()
        assert (place / "file").read_text() == "written since"
        service.call("Unmount", Name="v", ID="c")
    code, answer = service.ask("VolumeDriver.Remove", {"Name": "v"})
    assert code == 500
    assert answer["Err"] == "cannot remove v: it has snapshots; first: pyvol snapshot rm v@s1 v@s2"
    admin.run("snapshot", "rm", "v@s1", "v@s2")
    service.call("Remove", Name="v")
    assert [entry for entry in (service.state_dir / "volumes").rglob("*") if entry.is_file()] == []


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_a_clone_beside_the_volume_that_it_was_made_from(service: Service, admin: Administrator, fs: str) -> None:
    service.call("Create", Name="v", Opts={"fs": fs, "size": "320M", "mount_opts": "noatime"})
    place = mount(service, "v")
    (place / "file").write_text("first")
    admin.run("snapshot", "create", "v@s")
    (place / "file").write_text("second")
    service.call("Create", Name="old", Opts={"from": "v@s"})
    service.call("Create", Name="new", Opts={"from": "v", "size": "400M"})
    for name, content in (("old", "first"), ("new", "second")):
        copy = mount(service, name)
        assert (copy / "file").read_text() == content
        (copy / "file").write_text("of the clone")
    assert (place / "file").read_text() == "second"
    assert service.status("new") | {"size": "400MiB", "from": "v", "mount_opts": "noatime"} == service.status("new")
    assert os.statvfs(mount(service, "new")).f_blocks > os.statvfs(place).f_blocks
    service.call("Create", Name="new", Opts={"from": "v", "size": "400M"})


def test_what_cannot_be_copied(service: Service, admin: Administrator) -> None:
    service.call("Create", Name="v", Opts={"size": "64M"})
    for options, said in (
        ({"from": "w"}, "cannot find the volume w"),
        ({"from": "v@s"}, "the snapshots of v are: none"),
        ({"from": "x"}, "cannot find the volume x"),
        ({"from": "../v"}, "cannot use '../v' as a volume name"),
        ({"from": "v@../v"}, "cannot use '../v' as a snapshot name"),
        ({"from": "v", "size": "32M"}, "which has 64MiB"),
        ({"from": "v", "uid": "5"}, "cannot use -o uid with -o from=v"),
        ({"from": "v", "fs": "xfs", "size": "320M"}, "cannot use -o fs with -o from=v"),
    ):
        code, answer = service.ask("VolumeDriver.Create", {"Name": "x", "Opts": options})
        assert code >= 400
        assert said in answer["Err"], answer
    assert "it is spelled VOLUME@SNAPSHOT" in admin.error("snapshot", "create", "v")
    assert "the snapshots of v are: none" in admin.error("snapshot", "rm", "v@s")
    admin.run("snapshot", "create", "v@s")
    assert "it exists; give another name" in admin.error("snapshot", "create", "v@s")
    admin.run("resize", "v", "32M")
    assert "first: pyvol resize v 64MiB" in admin.error("snapshot", "restore", "v@s")
    assert [volume["Name"] for volume in service.call("List")["Volumes"]] == ["v"]


def mounted(kernel: Kernel, fs: str = "ext4") -> Mount:
    path = kernel.volumes / "v" / f"image.{fs}"
    kernel.files.ensure(BackingFile(path, MIN_SIZE_BYTES[fs], may_create=True, fs=fs))
    kernel.filesystems.ensure(Filesystem(path, fs, "_data"))
    kernel.devices.ensure(LoopDevice(path))
    want = Mount(kernel.mount_root / "v", path, fs, "_data")
    kernel.mounts.ensure(want)
    return want


def writes_within(target: Path, seconds: float) -> bool:
    """Tell whether a file can be written below `target` so soon."""
    writer = threading.Thread(target=(target / "written").write_text, args=("x",), daemon=True)
    writer.start()
    writer.join(seconds)
    return not writer.is_alive()


@pytest.mark.parametrize("end", ["killed", "too slow"])
@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_a_freeze_ends_with_whoever_made_it(kernel: Kernel, fs: str, end: str) -> None:
    want = mounted(kernel, fs)
    argv = [*MORTAL, sys.executable, "-c", FREEZE, str(want.target), "600" if end == "killed" else "1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as freezer:
        assert freezer.stdout is not None
        assert freezer.stdout.readline() == b"frozen\n"
        assert end == "too slow" or not writes_within(want.target, 0.3)
        if end == "killed":
            freezer.kill()
        until(lambda: writes_within(want.target, 10), "the thaw")
        freezer.kill()


def test_a_freeze_that_ended_too_early_is_no_success(kernel: Kernel) -> None:
    want = mounted(kernel)
    with pytest.raises(KernelError, match="thawed by others"), frozen(want.target, 60):
        subprocess.run(["fsfreeze", "--unfreeze", want.target], check=True)
    with frozen(want.target, 60):
        pass
    with pytest.raises(ValueError), frozen(want.target, 60):
        raise ValueError
    assert writes_within(want.target, 10)


def test_what_an_interrupted_snapshot_left_goes_and_a_finished_one_stays(kernel: Kernel) -> None:
    want = mounted(kernel)
    files = SnapshotFiles(kernel.volumes, ".snapshots", kernel.devices, Freezer())
    snapshot = SnapshotFile(kernel.volumes / ".snapshots/v/s.ext4", Origin(want.path, want.target), may_create=True)
    files.ensure(snapshot)
    before = snapshot.path.read_bytes()
    (want.target / "later").write_text("x" * MEBIBYTE)
    files.ensure(snapshot)
    assert snapshot.path.read_bytes() == before
    left = snapshot.path.with_name("t.ext4.new")
    left.write_text("half")
    for have in files.owned():
        files.remove(have)
    assert list(snapshot.path.parent.iterdir()) == [snapshot.path]
    assert list(kernel.files.owned()) == []
    subprocess.run(["fsfreeze", "--freeze", want.target], check=True)
    files.remove(snapshot)
    assert writes_within(want.target, 10)
    assert not snapshot.path.parent.exists()
    with pytest.raises(KernelError, match="Only removing the snapshot gives up"):
        files.ensure(SnapshotFile(snapshot.path, snapshot.origin, may_create=False))


def test_a_volume_that_is_mounted_elsewhere_alone_is_not_copied(kernel: Kernel) -> None:
    want = mounted(kernel)
    files = SnapshotFiles(kernel.volumes, ".snapshots", kernel.devices, Freezer())
    elsewhere = kernel.mount_root.parent / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["mount", "--bind", want.target / "_data", elsewhere], check=True)
    subprocess.run(["umount", want.target], check=True)
    with pytest.raises(KernelError, match=r"mounted, but not where pyvol mounts it: mounted at .*elsewhere"):
        files.ensure(SnapshotFile(kernel.volumes / ".snapshots/v/s.ext4", Origin(want.path, want.target), True))
    subprocess.run(["umount", elsewhere], check=True)
    until(lambda: attached_below(kernel.volumes) == [], "the device to be released")
