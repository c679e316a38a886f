"""What records mean: the whole desired state, as text."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from volplugin.options import Bind, Loop
from volplugin.plan import Layout
from volplugin.records import Attachment, Volume
from volplugin.resources import SourceDirectory

LAYOUT = Layout(Path("/s/volumes"), Path("/s/mnt"))
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
LOOP = Volume("v", Loop(size=1 << 30, fs="ext4"), CREATED)
BIND = Volume("b", Bind(source="/srv/b"), CREATED)
MOUNTED = Attachment().mounted("c1", "e").mounted("c2", "e")


def text(resources: tuple[object, ...]) -> list[str]:
    return [repr(resource).replace("PosixPath", "") for resource in resources]


def test_a_volume_in_a_file() -> None:
    assert text(LAYOUT.plan_volume(LOOP, None)) == [
        (
            "BackingFile(path=('/s/volumes/v/image.ext4'), size_bytes=1073741824, may_create=False, sparse=True,"
            " fs='ext4', shrinks=False, trash=None)"
        ),
        (
            "Filesystem(path=('/s/volumes/v/image.ext4'), fs='ext4', tree='_data', sparse=True, mkfs_options=(),"
            " owner=Owner(uid=0, gid=0, mode=493), origin=None, reserve=0, key_source=None)"
        ),
    ]


def test_an_encrypted_volume_knows_where_its_key_is_and_no_more() -> None:
    volume = Volume("v", Loop(size=1 << 30, fs="ext4", encrypt=True, key_file="/keys/v"), CREATED)
    mount = LAYOUT.mount(volume)
    assert repr(mount).endswith("key_source=KeySource(path=PosixPath('/keys/v'), command=()), lazy=False)")
    [_, filesystem] = LAYOUT.plan_volume(volume, None)
    assert repr(filesystem).endswith("key_source=KeySource(path=PosixPath('/keys/v'), command=()))")
    volume = Volume("v", Loop(size=1 << 30, fs="ext4", encrypt=True, key_cmd=("/keys/get", "v")), CREATED)
    assert "KeySource(path=PosixPath('/keys/get'), command=('/keys/get', 'v'))" in repr(LAYOUT.mount(volume))


def test_only_a_volume_that_nobody_was_told_of_may_be_made_from_nothing() -> None:
    [file, _] = LAYOUT.plan_volume(Volume("v", LOOP.options), None)
    assert "may_create=True" in repr(file)
    assert file.key == LAYOUT.plan_volume(LOOP, None)[0].key


def test_a_volume_in_a_file_that_is_mounted() -> None:
    assert text(LAYOUT.plan_attachment(MOUNTED, LOOP)) == [
        "LoopDevice(path=('/s/volumes/v/image.ext4'), sector=512)",
        (
            "Mount(target=('/s/mnt/v'), path=('/s/volumes/v/image.ext4'), fs='ext4', tree='_data', options=(),"
            " key_source=None, lazy=False)"
        ),
    ]
    assert LAYOUT.mountpoint(LOOP) == "/s/mnt/v/_data"


def test_a_bound_directory() -> None:
    assert text(LAYOUT.plan_volume(BIND, None)) == [
        "SourceDirectory(path=('/srv/b'), may_create=False, with_parents=False, owner=Owner(uid=0, gid=0, mode=493))"
    ]
    assert text(LAYOUT.plan_attachment(MOUNTED, BIND)) == [
        "BindMount(target=('/s/mnt/b'), source=('/srv/b'), options=(), lazy=False)"
    ]
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


def test_how_it_is_made_and_mounted() -> None:
    loop = Loop(
        1 << 30, "btrfs", mkfs_opts=("-m", "single"), mount_opts=("nodev", "noexec"), ro=True, uid=5, mode=0o700
    )
    [_, filesystem] = LAYOUT.plan_volume(Volume("v", loop, CREATED), None)
    assert "mkfs_options=('-m', 'single'), owner=Owner(uid=5, gid=0, mode=448)" in repr(filesystem)
    assert "options=('noexec', 'ro')" in repr(LAYOUT.mount(Volume("v", loop, CREATED)))


def test_a_directory_may_be_made_only_while_the_volume_is_new() -> None:
    for bind, path, parents in (
        (Bind("/srv", create=True), "/srv", True),
        (Bind("/srv", subdir_per_volume=True), "/srv/b", False),
        (Bind("/srv", create=True, subdir_per_volume=True), "/srv/b", True),
    ):
        [new] = LAYOUT.plan_volume(Volume("b", bind), None)
        assert new == SourceDirectory(Path(path), may_create=True, with_parents=parents)
        [old] = LAYOUT.plan_volume(Volume("b", bind, CREATED), None)
        assert old == SourceDirectory(Path(path))
        assert repr(LAYOUT.mount(Volume("b", bind))).replace("PosixPath", "").count(f"source=('{path}')") == 1
