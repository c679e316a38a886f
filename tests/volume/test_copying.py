"""Copies that take long: what is answered meanwhile, what is refused, and what is left when the plugin is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serving import until
from tests.volume.administrator import Administrator
from tests.volume.conftest import mounted_below
from tests.volume.serving import Service

MEBIBYTE = 1 << 20
# As many pieces that lie apart, each of which a disk that writes at once has to find a place for.
PIECES = 4000
# What waits for nothing takes a few milliseconds, unless the machine has other things to do.
SOON_S = 2.0


@pytest.fixture
def service(mount_namespace: None, tmp_path: Path) -> Iterator[Service]:
    """A plugin on a slow disk without reflinks, with the volume v, of which a copy takes long."""
    image, disk = tmp_path / "disk.ext4", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(2 << 30)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    disk.mkdir()
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    service = Service(disk, "--reconcile-every", "3600")
    service.call("Create", Name="v", Opts={"size": "256M"})
    # In blocks that the volume's filesystem has free.
    descriptor = os.open(service.state_dir / "volumes/v/image.ext4", os.O_WRONLY)
    for piece in range(PIECES):
        os.pwrite(descriptor, b"x" * 4096, 128 * MEBIBYTE + piece * 16384)
    os.fsync(descriptor)
    os.close(descriptor)
    subprocess.run(["mount", "-o", "remount,sync", disk], check=True)
    yield service
    service.kill()


@pytest.fixture
def aside() -> Iterator[Callable[[Callable[[], object]], Future[object]]]:
    with ThreadPoolExecutor(2) as pool:
        yield pool.submit


def soon(service: Service, method: str, **request: object) -> dict[str, object]:
    """Return the answer, which has come at once."""
    began = time.monotonic()
    answer = service.call(method, **request)
    assert time.monotonic() - began < SOON_S
    return answer


def refusal(service: Service, method: str, **request: object) -> str:
    status, answer = service.ask(f"VolumeDriver.{method}", request)
    assert status == 500
    return str(answer["Err"])


def reconcile(service: Service) -> None:
    """It has reconciled since this was called."""
    stray = service.state_dir / "volumes/stray"
    stray.mkdir()
    (stray / "image.ext4.new").touch()
    service.process.send_signal(signal.SIGHUP)
    until(lambda: not stray.exists(), "the sweep")


def test_mounts_and_reconcile_beside_a_long_copy(service: Service, admin: Administrator, aside) -> None:
    service.call("Create", Name="other")
    began = time.monotonic()
    copy = aside(lambda: admin.run("snapshot", "create", "v@s"))
    until(lambda: "underway" in service.status("v"), "the copy to begin")
    place = Path(str(soon(service, "Mount", Name="v", ID="c1")["Mountpoint"]))
    soon(service, "Unmount", Name="v", ID="c1")
    assert place.is_dir(), "it stays mounted until it has been copied"
    soon(service, "Mount", Name="v", ID="c2")
    soon(service, "Mount", Name="other", ID="c3")
    reconcile(service)
    assert len(soon(service, "List")["Volumes"]) == 2  # type: ignore[arg-type]
    soon(service, "Mount", Name="other", ID="c4")
    writer = threading.Thread(target=(place / "written").write_text, args=("later",), daemon=True)
    writer.start()
    said = "v is being copied to v@s; try again when that is done"
    assert refusal(service, "Remove", Name="v") == f"cannot remove v: {said}"
    assert refusal(service, "Create", Name="w", Opts={"from": "v"}) == f"cannot copy v: {said}"
    for words in (("resize", "v", "512M"), ("trim", "v"), ("snapshot", "create", "v@t")):
        assert said in admin.error(*words)
    assert not copy.done()
    assert writer.is_alive(), "what is written meanwhile would tear the copy"
    admin.run("protect", "v")
    assert copy.result() == "v@s\n"
    assert time.monotonic() - began > SOON_S, "nothing of this was put to the test"
    writer.join(SOON_S)
    assert (place / "written").read_text() == "later"
    assert service.status("v")["mounts"] == {"c2": 1}
    service.call("Unmount", Name="v", ID="c2")
    assert not place.exists()
    admin.run("protect", "--off", "v")

    copy = aside(lambda: admin.run("snapshot", "restore", "v@s"))
    until(lambda: "underway" in service.status("v"), "the copy to begin")
    said = "v@s is being restored; try again when that is done"
    assert refusal(service, "Mount", Name="v", ID="c1") == f"cannot mount v: {said}"
    assert said in admin.error("snapshot", "rm", "v@s")
    assert said in admin.error("protect", "v")
    reconcile(service)
    assert not copy.done()
    soon(service, "Mount", Name="other", ID="c5")
    copy.result()
    place = Path(str(service.call("Mount", Name="v", ID="c1")["Mountpoint"]))
    assert not (place / "written").exists()


def files(service: Service) -> dict[Path, int]:
    """Return the files of volumes and their sizes."""
    return {path: path.stat().st_size for path in (service.state_dir / "volumes").rglob("*") if path.is_file()}


def snapshot(service: Service, admin: Administrator) -> object:
    return admin.error("snapshot", "create", "v@new")


def restore(service: Service, admin: Administrator) -> object:
    return admin.error("snapshot", "restore", "v@s")


def shrink(service: Service, admin: Administrator) -> object:
    return admin.error("resize", "v", "240M")


def clone(service: Service, admin: Administrator) -> object:
    with pytest.raises(OSError):
        service.call("Create", Name="w", Opts={"from": "v"})
    return None


@pytest.mark.parametrize("verb", [snapshot, restore, shrink, clone])
def test_a_plugin_that_is_killed_in_the_middle_leaves_nothing(
    service: Service, admin: Administrator, aside, verb: Callable[[Service, Administrator], object]
) -> None:
    place = Path(service.call("Mount", Name="v", ID="c")["Mountpoint"])
    (place / "file").write_text("kept")
    if verb in (restore, shrink):
        service.call("Unmount", Name="v", ID="c")
    if verb is restore:
        admin.run("snapshot", "create", "v@s")
    before = files(service)
    copy = aside(lambda: verb(service, admin))
    until(lambda: any((service.state_dir / "volumes").rglob("*.new")), "the copy to begin")
    assert "underway" in service.status("v")
    service.kill()
    copy.result()
    subprocess.run(["mount", "-o", "remount,async", service.state_dir.parent], check=True)
    service.start()
    assert files(service) == before
    assert [volume["Name"] for volume in service.call("List")["Volumes"]] == ["v"]
    assert service.status("v").get("snapshots", []) == (["s"] if verb is restore else [])
    assert service.status("v")["size"] == "256MiB"
    assert "underway" not in service.status("v")
    mounted = verb in (snapshot, clone)
    assert len(mounted_below(service.mount_root)) == mounted
    place = Path(service.call("Mount", Name="v", ID="c")["Mountpoint"])
    assert (place / "file").read_text() == "kept"
    (place / "file").write_text("thawed")
