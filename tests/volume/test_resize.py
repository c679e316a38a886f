"""Volumes grow and shrink: `pyvol resize` on the real thing, and death at every step of it on the fake kernel."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path

import pytest

from pluginkit.errors import BadRequest, Conflict, Exhausted, KernelError, NotFound
from tests.volume.administrator import Administrator
from tests.volume.conftest import Kernel
from tests.volume.machine import Machine
from tests.volume.serving import Service
from volplugin.admin.wire import ResizeRequest
from volplugin.kernel import superblock
from volplugin.options import MIN_SIZE_BYTES
from volplugin.resources import BackingFile, Filesystem

MEBIBYTE = 1 << 20


def mebibytes(place: Path) -> float:
    """How much the filesystem at `place` says that it can hold."""
    visible = os.statvfs(place)
    return visible.f_blocks * visible.f_frsize / MEBIBYTE


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_a_volume_grows_while_it_is_mounted_or_when_it_is_mounted_next(
    service: Service, admin: Administrator, fs: str
) -> None:
    service.call("Create", Name="v", Opts={"fs": fs, "size": "320M"})
    place = Path(service.call("Mount", Name="v", ID="c")["Mountpoint"])
    with (place / "file").open("w") as file:
        file.write("kept")
        said = admin.run("resize", "v", "640M")
        file.write(" open")
    assert said.startswith("v has 640MiB")
    if fs != "ext4":
        assert "next mount" not in said
    if "next mount" in said:
        assert service.status("v")["grows_at_next_mount"] is True
        assert mebibytes(place) < 330
        service.call("Unmount", Name="v", ID="c")
        assert Path(service.call("Mount", Name="v", ID="c")["Mountpoint"]) == place
    assert "grows_at_next_mount" not in service.status("v")
    assert mebibytes(place) > 540
    assert (place / "file").read_text() == "kept open"
    assert admin.inspect("v")["size"] == "640MiB"
    service.call("Create", Name="v", Opts={"fs": fs, "size": "640M"})


def test_an_ext4_shrinks_and_keeps_what_is_in_it(service: Service, admin: Administrator) -> None:
    service.call("Create", Name="v", Opts={"size": "128M"})
    place = Path(service.call("Mount", Name="v", ID="c")["Mountpoint"])
    content = os.urandom(20 * MEBIBYTE)
    (place / "file").write_bytes(content)
    assert "cannot shrink v: it is mounted; caller c" in admin.error("resize", "v", "64M")
    service.call("Unmount", Name="v", ID="c")
    refused = admin.error("resize", "v", "16M")
    assert "image.ext4 to 16MiB: what is in it needs " in refused
    assert admin.inspect("v")["size"] == "128MiB"
    assert "delete files in it" in admin.inspect("v")["last_error"]
    assert admin.run("resize", "v", "64M") == "v has 64MiB\n"
    [image] = (service.state_dir / "volumes" / "v").iterdir()
    assert image.stat().st_size == 64 * MEBIBYTE
    place = Path(service.call("Mount", Name="v", ID="c")["Mountpoint"])
    assert mebibytes(place) <= 64
    assert (place / "file").read_bytes() == content
    service.call("Unmount", Name="v", ID="c")
    subprocess.run(["e2fsck", "-f", "-n", image], check=True, capture_output=True)


def test_a_btrfs_shrinks_as_far_as_it_can(service: Service, admin: Administrator) -> None:
    service.call("Create", Name="v", Opts={"size": "640M", "fs": "btrfs"})
    place = Path(service.call("Mount", Name="v", ID="c")["Mountpoint"])
    content = os.urandom(150 * MEBIBYTE)
    (place / "file").write_bytes(content)
    assert "cannot shrink v: it is mounted; caller c" in admin.error("resize", "v", "320M")
    service.call("Unmount", Name="v", ID="c")
    assert "image.btrfs to 128MiB" in admin.error("resize", "v", "128M")
    assert admin.inspect("v")["size"] == "640MiB"
    assert admin.run("resize", "v", "512M") == "v has 512MiB\n"
    [image] = (service.state_dir / "volumes" / "v").iterdir()
    assert (image.stat().st_size, superblock.size_bytes(image, "btrfs")) == (512 * MEBIBYTE, 512 * MEBIBYTE)
    service.kill()
    service.start()
    service.call("Mount", Name="v", ID="c")
    assert mebibytes(place) <= 512
    assert (place / "file").read_bytes() == content
    service.call("Unmount", Name="v", ID="c")
    subprocess.run(["btrfs", "check", "--readonly", image], check=True, capture_output=True)


def test_an_allocated_volume_stays_allocated(service: Service, admin: Administrator) -> None:
    service.call("Create", Name="v", Opts={"size": "32M", "sparse": "false"})
    for size in (64, 48):
        admin.run("resize", "v", f"{size}M")
        assert service.status("v")["allocated_bytes"] >= size * MEBIBYTE


def test_what_cannot_be(service: Service, admin: Administrator) -> None:
    service.call("Create", Name="v", Opts={"size": "320M", "fs": "xfs"})
    assert "xfs cannot be made smaller" in admin.error("resize", "v", "310M")
    assert "fs=xfs needs at least" in admin.error("resize", "v", "64M")
    assert "it takes a number of bytes or with a unit" in admin.error("resize", "v", "much")
    assert "cannot give v" in admin.error("resize", "v", "100T")
    assert admin.inspect("v")["size"] == "320MiB"
    assert "cannot find the volume w" in admin.error("resize", "w", "1G")


def test_a_plugin_that_dies_while_it_shrinks_loses_nothing(kernel: Kernel) -> None:
    """What a killed resize2fs leaves is beside the volume's file, and in nobody's way."""
    path = kernel.volumes / "v" / "image.ext4"
    kernel.files.ensure(BackingFile(path, 128 * MEBIBYTE, may_create=True))
    kernel.filesystems.ensure(Filesystem(path, "ext4", "_data"))
    before = path.read_bytes()
    path.with_name("image.ext4.new").write_bytes(b"a wreck")
    kernel.files.ensure(BackingFile(path, 128 * MEBIBYTE, may_create=False))
    assert path.read_bytes() == before
    kernel.files.ensure(BackingFile(path, 64 * MEBIBYTE, may_create=False, shrinks=True))
    assert (path.stat().st_size, superblock.size_bytes(path, "ext4")) == (64 * MEBIBYTE, 64 * MEBIBYTE)
    assert [entry.name for entry in path.parent.iterdir()] == ["image.ext4"]


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_damage_is_not_taken_for_resizing(kernel: Kernel, fs: str) -> None:
    size = MIN_SIZE_BYTES[fs] + 64 * MEBIBYTE
    path = kernel.volumes / "v" / f"image.{fs}"
    kernel.files.ensure(BackingFile(path, size, may_create=True, fs=fs))
    kernel.filesystems.ensure(Filesystem(path, fs, "_data"))
    assert superblock.size_bytes(path, fs) == size
    with pytest.raises(KernelError, match=f"its filesystem has {size} bytes and should have"):
        kernel.files.ensure(BackingFile(path, size - 32 * MEBIBYTE, may_create=False, fs=fs))
    os.truncate(path, size - MEBIBYTE)
    for wanted in (size, size - 32 * MEBIBYTE):
        with pytest.raises(KernelError, match="its filesystem is not whole"):
            kernel.files.ensure(BackingFile(path, wanted, may_create=False, fs=fs))
    os.truncate(path, 100)
    with pytest.raises(KernelError, match="it has 100 bytes"):
        kernel.files.ensure(BackingFile(path, size, may_create=False, fs=fs))


def test_an_undone_growth_gives_the_space_back(kernel: Kernel) -> None:
    path = kernel.volumes / "v" / "image.ext4"
    kernel.files.ensure(BackingFile(path, 32 * MEBIBYTE, may_create=True))
    kernel.filesystems.ensure(Filesystem(path, "ext4", "_data"))
    for size in (64, 32):
        kernel.files.ensure(BackingFile(path, size * MEBIBYTE, may_create=False))
        assert path.stat().st_size == size * MEBIBYTE


def test_death_at_every_step_of_a_btrfs_that_shrinks(machine: Machine) -> None:
    def create(machine: Machine) -> None:
        machine.create("v", size="640M", fs="btrfs")

    for _ in machine.deaths(partial(resize, size="320M"), create, least=8):
        assert not machine.is_mounted("v")
        resize(machine, "320M")
        machine.is_settled()
        machine.remove("v")


def resize(machine: Machine, size: str) -> None:
    machine.admin.resize(ResizeRequest("v", size))


@pytest.mark.parametrize(("size", "mounted"), [("128M", False), ("128M", True), ("32M", False)])
def test_death_at_every_step_of_a_resize(machine: Machine, size: str, mounted: bool) -> None:
    def create(machine: Machine) -> None:
        machine.create("v", size="64M")
        if mounted:
            machine.mount("v", "c1")

    for _ in machine.deaths(partial(resize, size=size), create, least=4):
        assert machine.status("v")["size"] in ("64MiB", size + "iB")
        resize(machine, size)
        machine.is_settled()
        assert machine.status("v")["size"] == f"{size}iB"
        machine.kill_engine()
        machine.remove("v")


def test_a_resize_that_is_refused_changes_nothing(machine: Machine) -> None:
    machine.create("v", size="64M")
    machine.create("b", backend="bind", source="/srv")
    machine.mount("v", "c1")
    machine.disk_bytes = 100 << 20
    for size, error in (("32M", Conflict), ("1G", Exhausted), ("1K", BadRequest), ("", BadRequest)):
        with pytest.raises(error):
            resize(machine, size)
    with pytest.raises(BadRequest, match="a directory of the host"):
        machine.admin.resize(ResizeRequest("b", "1G"))
    with pytest.raises(NotFound):
        machine.admin.resize(ResizeRequest("w", "1G"))
    machine.is_settled()
    assert machine.status("v")["size"] == "64MiB"
    resize(machine, "96M")
    machine.is_settled()
