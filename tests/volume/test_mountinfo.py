"""The text of a mountinfo file, and what follows from it."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest

from volplugin.kernel import mountinfo
from volplugin.kernel.mountinfo import Mounted

TEXT = rb"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 7:0 / /mnt/a rw - ext4 /dev/loop0 rw
41 22 7:1 /_data /mnt/with\040space\011and\134more rw,nosuid master:2 propagate_from:1 - ext4 /dev/loop1 rw
42 40 7:2 / /mnt/a rw,nodev shared:7 master:2 - ext4 /dev/loop2 rw
""".lstrip()


def test_fields_are_found_however_many_tags_there_are() -> None:
    assert mountinfo.parse(TEXT) == [
        Mounted("254:0", "/", "/"),
        Mounted("7:0", "/", "/mnt/a"),
        Mounted("7:1", "/_data", "/mnt/with space\tand\\more"),
        Mounted("7:2", "/", "/mnt/a"),
    ]


def test_hostile_names_of_mount_points_are_names() -> None:
    name = "/a\rb\x0bc\x1cd\x85e\u2028f"
    line = f"40 22 7:0 / {name} rw - ext4 /dev/loop0 rw\n".encode()
    assert mountinfo.parse(line + TEXT)[0] == Mounted("7:0", "/", name)
    assert mountinfo.parse(line.replace(b"/a", b"/\xff"))[0].point.startswith("/\\xff")


def test_the_topmost_mount_is_what_is_visible() -> None:
    mounts = mountinfo.parse(TEXT)
    assert mountinfo.top(mounts, Path("/mnt/a")) == Mounted("7:2", "/", "/mnt/a")
    assert mountinfo.top(mounts, Path("/mnt")) is None


@pytest.mark.usefixtures("mount_namespace")
@pytest.mark.parametrize("name", ["v", "with space", "tab\tand\\more", "half"])
def test_a_table_knows_what_changes(tmp_path: Path, name: str) -> None:
    with contextlib.closing(mountinfo.Table()) as table:
        follow(table, tmp_path, name)


def follow(table: mountinfo.Table, tmp_path: Path, name: str) -> None:
    assert table.at(tmp_path / name) is None
    for other in (name, f"{name}-longer"):
        (tmp_path / other).mkdir()
        subprocess.run(["mount", "-t", "tmpfs", other, tmp_path / other], check=True)
    found = table.at(tmp_path / name)
    assert found == mountinfo.top(mountinfo.read(), tmp_path / name)
    assert found is not None
    subprocess.run(["mount", "-t", "tmpfs", "above", tmp_path / name], check=True)
    above = table.at(tmp_path / name)
    assert above is not None
    assert above.device != found.device
    for left in (found, None):
        subprocess.run(["umount", tmp_path / name], check=True)
        assert table.at(tmp_path / name) == left


def test_a_btrfs_is_known_by_its_loop_device() -> None:
    line = b"43 22 0:42 /_data /mnt/b rw - btrfs /dev/loop3 rw,subvolid=5,subvol=/\n"
    assert mountinfo.parse(line) == [Mounted("7:3", "/_data", "/mnt/b")]
    assert mountinfo.parse(line.replace(b"loop3", b"vdb"))[0].device == "0:42"
    assert mountinfo.parse(line.replace(b"btrfs", b"tmpfs"))[0].device == "0:42"
