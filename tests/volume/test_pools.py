"""Pools, on the real thing: volumes whose files lie in a file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving import until
from tests.volume.administrator import Administrator
from tests.volume.conftest import attached_below
from tests.volume.serving import Service

MEBIBYTE = 1 << 20


@pytest.fixture(params=["xfs", "btrfs"])
def fs(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def service(mount_namespace: None, tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.stop()


def refused(service: Service, method: str, **request: object) -> str:
    """Return the error that is the answer to a method of VolumeDriver."""
    status, answer = service.ask(f"VolumeDriver.{method}", request)
    assert status >= 400, answer
    return str(answer["Err"])


def pools(admin: Administrator) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(admin.run("pool", "ls", "--json"))
    return found


def test_a_volume_in_a_pool_lives_as_any_other(service: Service, admin: Administrator, fs: str) -> None:
    admin.run("pool", "create", "fast", "700M", "--fs", fs)
    service.call("Create", Name="v", Opts={"size": "64M", "pool": "fast"})
    tree = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    (tree / "file").write_text("before")
    status = service.status("v")
    assert (status["pool"], status["health"]) == ("fast", "ok")
    [image] = (service.state_dir / "volumes/.mounted/fast/_data/v").iterdir()
    assert image.name == "image.ext4"
    # By reflink: what is shared is not taken twice.
    (tree / "large").write_bytes(bytes(range(256)) * 4096 * 30)
    admin.run("snapshot", "create", "v@s")
    service.call("Create", Name="w", Opts={"from": "v@s"})
    (tree / "file").write_text("after")
    copy = Path(service.call("Mount", Name="w", ID="c2")["Mountpoint"])
    assert (copy / "file").read_text() == "before"
    [pool] = pools(admin)
    assert pool["Status"]["used_bytes"] < 64 * MEBIBYTE + 60 * MEBIBYTE
    assert pool["Volumes"] == ["v", "w"]
    found = [line for line in admin.done("doctor").stdout.splitlines() if not line.startswith(" ")]
    assert found == ["warning: no engine could be asked what it knows"], "pools are no finding"
    assert pool["Status"]["health"] == "ok"
    said = admin.error("pool", "rm", "fast")
    assert "in it are v, w" in said
    for name, caller in (("v", "c1"), ("w", "c2")):
        service.call("Unmount", Name=name, ID=caller)
    admin.run("snapshot", "restore", "v@s")
    tree = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    assert (tree / "file").read_text() == "before"
    service.call("Unmount", Name="v", ID="c1")
    admin.run("snapshot", "rm", "v@s")
    for name in ("v", "w"):
        service.call("Remove", Name=name)
    admin.run("pool", "rm", "fast")
    assert pools(admin) == []
    assert attached_below(service.state_dir) == []
    assert not list((service.state_dir / "volumes/.pools").glob("fast"))
    assert not list((service.state_dir / "volumes/.mounted").iterdir())


def test_a_pool_grows_while_its_volumes_are_written_to(service: Service, admin: Administrator, fs: str) -> None:
    admin.run("pool", "create", "fast", "400M", "--fs", fs)
    said = refused(service, "Create", Name="w", Opts={"size": "900M", "pool": "fast"})
    assert "cannot give w 900MiB: the disk has" in said
    service.call("Create", Name="v", Opts={"size": "64M", "pool": "fast"})
    tree = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    (tree / "file").write_text("kept")
    assert "pools only grow" in admin.error("pool", "grow", "fast", "300M")
    admin.run("pool", "grow", "fast", "1500M")
    service.call("Create", Name="w", Opts={"size": "900M", "pool": "fast"})
    assert (tree / "file").read_text() == "kept"
    [pool] = pools(admin)
    assert pool["Status"]["available_bytes"] > 900 * MEBIBYTE


def test_removal_gives_the_space_back_to_the_host(service: Service, admin: Administrator) -> None:
    admin.run("pool", "create", "fast", "700M")
    image = service.state_dir / "volumes/.pools/fast/image.xfs"
    service.call("Create", Name="v", Opts={"size": "200M", "pool": "fast", "sparse": "false"})
    tree = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    (tree / "large").write_bytes(b"x" * 150 * MEBIBYTE)
    service.call("Unmount", Name="v", ID="c1")
    subprocess.run(["sync", "-f", image], check=True)
    full = image.stat().st_blocks * 512
    assert full > 150 * MEBIBYTE
    service.call("Remove", Name="v")
    mounted = service.state_dir / "volumes/.mounted/fast"

    def is_given_back() -> bool:
        # The kernel discards what was freed some time after its log is written.
        subprocess.run(["sync", "-f", mounted], check=True)
        return image.stat().st_blocks * 512 < full - 100 * MEBIBYTE

    until(is_given_back, "the space of the volume on the host's disk")


def test_a_pool_outlives_its_plugin_and_what_others_do(service: Service, admin: Administrator) -> None:
    admin.run("pool", "create", "fast", "400M")
    service.call("Create", Name="v", Opts={"size": "64M", "pool": "fast"})
    tree = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    (tree / "file").write_text("kept")
    service.kill()
    service.start()
    assert (tree / "file").read_text() == "kept"
    service.call("Unmount", Name="v", ID="c1")
    # Somebody takes the pool away, or the machine was off.
    pool = service.state_dir / "volumes/.mounted/fast"
    subprocess.run(["umount", pool], check=True)
    tree = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    assert (tree / "file").read_text() == "kept"
    service.call("Unmount", Name="v", ID="c1")
    service.stop()
    subprocess.run(["umount", pool], check=True)
    service.start()
    assert pool.is_mount()
    service.call("Remove", Name="v")
    assert not list((pool / "_data").glob("v*"))


def test_what_is_in_a_pool_that_is_lost_is_not_forgotten(service: Service, admin: Administrator) -> None:
    admin.run("pool", "create", "fast", "400M")
    service.call("Create", Name="v", Opts={"size": "64M", "pool": "fast"})
    service.stop()
    subprocess.run(["umount", service.state_dir / "volumes/.mounted/fast"], check=True)
    image = service.state_dir / "volumes/.pools/fast/image.xfs"
    away = image.rename(service.state_dir / "away")
    service.start()
    [pool] = pools(admin)
    assert pool["Status"]["health"] == "problem"
    for verb, request in (("Mount", {"Name": "v", "ID": "c1"}), ("Remove", {"Name": "v"})):
        assert "Only 'pyvol pool rm --lost fast' gives up it" in refused(service, verb, **request)
    assert "cannot" in refused(service, "Create", Name="w", Opts={"size": "64M", "pool": "fast"})
    assert service.status("v")["health"] == "problem"
    assert "in it are v; remove them first" in admin.error("pool", "rm", "fast")
    away.rename(image)
    service.call("Mount", Name="v", ID="c1")
    service.call("Unmount", Name="v", ID="c1")
    service.call("Remove", Name="v")


def test_a_pool_that_is_lost_for_good_is_given_up(service: Service, admin: Administrator) -> None:
    admin.run("pool", "create", "fast", "400M")
    for name in ("v", "w"):
        service.call("Create", Name=name, Opts={"size": "64M", "pool": "fast"})
    service.call("Create", Name="x", Opts={"size": "64M"})
    admin.run("snapshot", "create", "v@s")
    assert "its file is where it should be; leave out --lost" in admin.error("pool", "rm", "--lost", "fast")
    service.stop()
    subprocess.run(["umount", service.state_dir / "volumes/.mounted/fast"], check=True)
    image = service.state_dir / "volumes/.pools/fast/image.xfs"
    away = image.rename(service.state_dir / "away")
    service.start()
    assert service.status("v")["health"] == "problem"
    admin.run("pool", "rm", "--lost", "fast")
    assert pools(admin) == []
    assert [volume["Name"] for volume in service.call("List")["Volumes"]] == ["x"]
    assert not list((service.state_dir / "volumes/.mounted").iterdir())
    # It was not lost after all: what is in it is whole, and nobody's.
    image.parent.mkdir(exist_ok=True)
    away.rename(image)
    assert f"there is data in {image.parent} that no record knows" in admin.error("pool", "create", "fast", "400M")
    assert image.exists()


def test_a_pool_is_looked_into_before_it_is_removed(service: Service, admin: Administrator) -> None:
    admin.run("pool", "create", "fast", "400M")
    mounted = service.state_dir / "volumes/.mounted/fast"
    (mounted / "_data" / "w").mkdir()
    (mounted / "_data" / "w" / "image.ext4").write_text("somebody's")
    subprocess.run(["umount", mounted], check=True)
    assert "in it are data of w; remove them first" in admin.error("pool", "rm", "fast")
    assert (mounted / "_data" / "w" / "image.ext4").read_text() == "somebody's"
    (mounted / "_data" / "w" / "image.ext4").unlink()
    (mounted / "_data" / "w").rmdir()
    held = subprocess.Popen(["sleep", "1000"], cwd=mounted)
    try:
        assert "in use by process" in admin.error("pool", "rm", "fast")
    finally:
        held.kill()
        held.wait()
    admin.run("pool", "rm", "fast")
    assert pools(admin) == []


def test_bad_input_is_refused_and_makes_nothing(service: Service, admin: Administrator) -> None:
    for name in ("../x", ".x", "", "a/b", "x" * 64):
        assert "as a pool's name" in admin.error("pool", "create", name, "400M")
    assert "--fs ext4" in admin.error("pool", "create", "fast", "400M", "--fs", "ext4")
    assert "at least 300MiB" in admin.error("pool", "create", "fast", "100M")
    assert "as a size" in admin.error("pool", "create", "fast", "much")
    assert "available" in admin.error("pool", "create", "fast", "900T")
    assert "cannot find the pool fast: the pools are: none" in admin.error("pool", "grow", "fast", "1G")
    assert "cannot find the pool fast" in admin.error("pool", "rm", "fast")
    assert "cannot find the pool fast" in refused(service, "Create", Name="v", Opts={"size": "64M", "pool": "fast"})
    assert "-o pool=../x" in refused(service, "Create", Name="v", Opts={"size": "64M", "pool": "../x"})
    assert pools(admin) == []
    admin.run("pool", "create", "fast", "400M")
    assert "it exists" in admin.error("pool", "create", "fast", "400M")
    service.call("Create", Name="v", Opts={"size": "64M"})
    assert "-o pool with -o from=v" in refused(service, "Create", Name="w", Opts={"from": "v", "pool": "fast"})


def test_an_archive_goes_into_a_pool(service: Service, admin: Administrator, tmp_path: Path) -> None:
    admin.run("pool", "create", "fast", "400M")
    service.call("Create", Name="v", Opts={"size": "64M"})
    tree = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    (tree / "file").write_text("kept")
    service.call("Unmount", Name="v", ID="c1")
    admin.run("backup", "v", "--to", str(tmp_path / "v.pyvol"))
    admin.run("restore", str(tmp_path / "v.pyvol"), "--as", "w", "-o", "pool=fast")
    assert service.status("w")["pool"] == "fast"
    admin.run("backup", "w", "--to", str(tmp_path / "w.pyvol"))
    admin.run("restore", str(tmp_path / "w.pyvol"), "--as", "x")
    assert "pool" not in service.status("x")
    for name in ("w", "x"):
        tree = Path(service.call("Mount", Name=name, ID="c1")["Mountpoint"])
        assert (tree / "file").read_text() == "kept"
        service.call("Unmount", Name=name, ID="c1")
    assert "pool=../x" in admin.error("restore", str(tmp_path / "v.pyvol"), "--as", "y", "-o", "pool=../x")
