"""`pyvol check`: on whole, damaged, unclean and mounted volumes of each filesystem."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.volume.administrator import Administrator
from tests.volume.conftest import mounted_below
from tests.volume.serving import Service

MEBIBYTE = 1 << 20
# Where each keeps something that it cannot do without, beside its superblock; from and to.
VITAL = {"ext4": (4096, 65536), "xfs": (4096, 12288), "btrfs": (20 * MEBIBYTE, 60 * MEBIBYTE)}


@pytest.fixture
def service(mount_namespace: None, tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "allowed").mkdir()
    service = Service(tmp_path, "--bind-root", str(tmp_path / "allowed"), "--reconcile-every", "3600")
    yield service
    service.kill()


def checked(admin: Administrator, *words: str) -> tuple[int, list[str]]:
    """Return the exit code of the check, and the lines that it prints."""
    done = admin.done("check", *words)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def volume(service: Service, name: str, fs: str) -> Path:
    """Return the file of a volume with something in it."""
    service.call("Create", Name=name, Opts={"fs": fs, "size": "320M"})
    place = Path(service.call("Mount", Name=name, ID="c")["Mountpoint"])
    (place / "file").write_bytes(os.urandom(MEBIBYTE))
    service.call("Unmount", Name=name, ID="c")
    return service.state_dir / "volumes" / name / f"image.{fs}"


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_a_whole_volume_and_a_damaged_one(service: Service, admin: Administrator, fs: str) -> None:
    image = volume(service, "v", fs)
    before = image.stat()
    assert checked(admin, "v") == (0, ["v: ok"])
    service.call("Mount", Name="v", ID="c")
    assert checked(admin, "v") == (0, ["v: mounted: it is in use; only what is not mounted can be checked"])
    service.call("Unmount", Name="v", ID="c")
    first, last = VITAL[fs]
    descriptor = os.open(image, os.O_WRONLY)
    os.pwrite(descriptor, b"\xa5" * (last - first), first)
    os.close(descriptor)
    damaged = image.read_bytes()
    code, [line] = checked(admin, "v")
    assert (code, line.split(":")[1]) == (1, " damaged")
    assert str(image) in line, "how it is repaired"
    assert image.read_bytes() == damaged, "and it is left alone"
    assert image.stat().st_ino == before.st_ino


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_what_was_not_unmounted_is_told_from_damage(service: Service, admin: Administrator, fs: str) -> None:
    image = volume(service, "v", fs)
    place = Path(service.call("Mount", Name="v", ID="c")["Mountpoint"])
    (place / "later").write_text("x")
    os.sync()
    copy = image.read_bytes()
    service.call("Unmount", Name="v", ID="c")
    image.write_bytes(copy)
    code, [line] = checked(admin, "v")
    assert (code, line) == (0, "v: unclean: it was not unmounted cleanly; its next mount puts that right")
    service.call("Mount", Name="v", ID="c")
    service.call("Unmount", Name="v", ID="c")
    assert checked(admin, "v") == (0, ["v: ok"])


def test_all_of_them_a_directory_and_too_little_time(service: Service, admin: Administrator, tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        service.call("Create", Name=name, Opts={"size": "32M"})
    service.call("Create", Name="b", Opts={"backend": "bind", "source": str(tmp_path / "allowed")})
    code, lines = checked(admin, "--all")
    assert (code, [line.split(":")[1].strip() for line in lines]) == (0, ["directory", "ok", "ok"])
    told = json.loads(admin.run("check", "--all", "--json"))
    assert [(each["Name"], each["Verdict"]) for each in told] == [("b", "directory"), ("v1", "ok"), ("v2", "ok")]
    # A file that nobody writes to, and from which nothing comes.
    image = service.state_dir / "volumes/v2/image.ext4"
    image.unlink()
    assert "No such file" in admin.error("check", "v2")
    assert "cannot find the volume w" in admin.error("check", "w")
    assert admin.done("check").returncode == 2
    assert admin.done("check", "--all", "v1").returncode == 2


def stopped(image: Path) -> int:
    """Return the process that reads the file, once there is one; it goes no further."""
    while True:
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
                if words[:2] == [b"btrfs", b"check"] and str(image).encode() in words:
                    os.kill(int(entry.name), signal.SIGSTOP)
                    return int(entry.name)


def test_a_check_keeps_nobody_from_mounting(service: Service, admin: Administrator) -> None:
    image = volume(service, "v", "btrfs")
    place = Path(service.call("Mount", Name="v", ID="c")["Mountpoint"])
    (place / "large").write_bytes(os.urandom(200 * MEBIBYTE))
    service.call("Unmount", Name="v", ID="c")
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(checked, admin, "v")
        program = stopped(image)
        status, answer = service.ask("VolumeDriver.Remove", {"Name": "v"})
        assert (status, answer["Err"]) == (500, "cannot remove v: v is being checked; try again when that is done")
        service.call("Mount", Name="v", ID="c")
        (place / "large").unlink()
        subprocess.run(["sync", "-f", place], check=True)
        os.kill(program, signal.SIGCONT)
        assert check.result() == (1, ["v: changed: it was mounted meanwhile; try again"])
    assert len(mounted_below(service.mount_root)) == 1


def test_a_check_ends_in_time(service: Service, admin: Administrator) -> None:
    volume(service, "v", "btrfs")
    place = Path(service.call("Mount", Name="v", ID="c")["Mountpoint"])
    (place / "large").write_bytes(os.urandom(100 * MEBIBYTE))
    service.call("Unmount", Name="v", ID="c")
    code, [line] = checked(admin, "v", "--timeout", "0.05")
    assert code == 1
    assert line.startswith("v: unknown: cannot run btrfs: no end after 0.05 s")
