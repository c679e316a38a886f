"""What records mean: the whole desired state, as text."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from volplugin.options import Bind, Loop
from volplugin.plan import Layout
from volplugin.records import Attachment, Volume

LAYOUT = Layout(Path("/s/volumes"), Path("/s/mnt"))
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
LOOP = Volume("v", Loop(size=1 << 30, fs="ext4"), CREATED)
BIND = Volume("b", Bind(source="/srv/b"), CREATED)
MOUNTED = Attachment().mounted("c1", "e").mounted("c2", "e")


def text(resources: tuple[object, ...]) -> list[str]:
    return [repr(resource).replace("PosixPath", "") for resource in resources]


def test_a_volume_in_a_file() -> None:
    assert text(LAYOUT.plan_volume(LOOP, None)) == [
        "BackingFile(path=('/s/volumes/v/image.ext4'), size_bytes=1073741824, may_create=False, sparse=True)",
        "Filesystem(path=('/s/volumes/v/image.ext4'), fs='ext4', tree='_data', sparse=True)",
    ]


def test_only_a_volume_that_nobody_was_told_of_may_be_made_from_nothing() -> None:
    [file, _] = LAYOUT.plan_volume(Volume("v", LOOP.options), None)
    assert "may_create=True" in repr(file)
    assert file.key == LAYOUT.plan_volume(LOOP, None)[0].key


def test_a_volume_in_a_file_that_is_mounted() -> None:
    assert text(LAYOUT.plan_attachment(MOUNTED, LOOP)) == [
        "LoopDevice(path=('/s/volumes/v/image.ext4'), sector=512)",
        "Mount(target=('/s/mnt/v'), path=('/s/volumes/v/image.ext4'), fs='ext4', tree='_data', options=())",
    ]
    assert LAYOUT.mountpoint(LOOP) == "/s/mnt/v/_data"


def test_a_bound_directory() -> None:
    assert text(LAYOUT.plan_volume(BIND, None)) == ["SourceDirectory(path=('/srv/b'))"]
    assert text(LAYOUT.plan_attachment(MOUNTED, BIND)) == ["BindMount(target=('/s/mnt/b'), source=('/srv/b'))"]
    assert LAYOUT.mountpoint(BIND) == "/s/mnt/b"


def test_nothing_is_mounted_for_nobody() -> None:
    assert LAYOUT.plan_attachment(Attachment(), LOOP) == ()
    assert LAYOUT.plan_attachment(Attachment(), BIND) == ()


def test_what_is_allocated_is_never_given_back() -> None:
    volume = Volume("v", Loop(size=1 << 30, fs="btrfs", sparse=False, sector=4096), CREATED)
    [file, filesystem] = LAYOUT.plan_volume(volume, None)
    assert "sparse=False" in repr(file)
    assert "sparse=False" in repr(filesystem)
    [device, mount] = LAYOUT.plan_attachment(MOUNTED, volume)
    assert "sector=4096" in repr(device)
    assert "options=('nodiscard',)" in repr(mount)
