"""What two snapshots share on the disk is not read again: on disks with reflinks."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.volume.administrator import Administrator
from tests.volume.serving import Service
from tests.volume.test_archives import MEBIBYTE, mount
from volplugin.values import parse_size


@pytest.fixture(params=["xfs", "btrfs"])
def service(mount_namespace: None, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    image, disk = tmp_path / "disk.image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(2 << 30)
    subprocess.run([f"mkfs.{request.param}", "-q", "-K", image], check=True)
    disk.mkdir()
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    service = Service(disk, "--reconcile-every", "3600")
    yield service
    service.kill()


def read_bytes(said: str) -> int:
    """Return how much the backup says that it has read."""
    return parse_size(said.split()[2])


def test_what_has_not_changed_is_not_read(service: Service, tmp_path: Path) -> None:
    admin = Administrator(service)
    service.call("Create", Name="v", Opts={"size": "256M"})
    place, chance = mount(service, "v"), random.Random(4)
    (place / "large").write_bytes(chance.randbytes(80 * MEBIBYTE))
    (place / "gone").write_bytes(chance.randbytes(5 * MEBIBYTE))
    archives = {name: str(tmp_path / name) for name in ("one", "two", "three", "four")}
    volumes = service.state_dir / "volumes"

    def is_equal(snapshot: str, *chain: str) -> None:
        admin.run("restore", *(archives[archive] for archive in chain), "--as", "copy")
        there = volumes / ".snapshots" / "v" / f"{snapshot}.ext4"
        assert (volumes / "copy" / "image.ext4").read_bytes() == there.read_bytes()
        service.call("Remove", Name="copy")

    admin.run("snapshot", "create", "v@s1")
    assert read_bytes(admin.run("backup", "v@s1", "--to", archives["one"])) > 80 * MEBIBYTE
    with (place / "large").open("r+b") as large:
        for _ in range(5):
            large.seek(chance.randrange(70 * MEBIBYTE))
            large.write(os.urandom(5000))
    (place / "gone").unlink()
    (place / "new").write_text("new")
    os.sync()
    admin.run("trim", "v")
    admin.run("snapshot", "create", "v@s2")
    assert read_bytes(admin.run("backup", "v@s2", "--to", archives["two"], "--since", archives["one"])) < 40 * MEBIBYTE
    is_equal("s2", "one", "two")
    service.call("Unmount", Name="v", ID="c")
    admin.run("snapshot", "restore", "v@s1")
    admin.run("snapshot", "create", "v@s3")
    # An archive goes on that was begun with another snapshot: what is as it was in the first one is not so in this.
    Path(f"{archives['three']}.partial").write_bytes(Path(archives["two"]).read_bytes()[:-30])
    said = admin.run("backup", "v@s3", "--to", archives["three"], "--since", archives["one"])
    assert 0 < read_bytes(said) < 40 * MEBIBYTE
    is_equal("s3", "one", "three")
    # A snapshot of the same name that is another one.
    admin.run("snapshot", "rm", "v@s1")
    admin.run("snapshot", "restore", "v@s2")
    admin.run("snapshot", "create", "v@s1")
    said = admin.run("backup", "v@s3", "--to", archives["four"], "--since", archives["one"])
    assert read_bytes(said) > 80 * MEBIBYTE
    is_equal("s3", "one", "four")
