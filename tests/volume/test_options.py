"""The table of `-o` options: what it takes, what it refuses, and that the documentation is it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluginkit import wire
from pluginkit.errors import BadRequest
from volplugin.options import (
    OPTIONS,
    Bind,
    Loop,
    describe_options,
    differing,
    parse_changes,
    parse_options,
    shown,
)
from volplugin.records import Volume
from volplugin.values import MKFS_OPTIONS, format_size, parse_size

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8388608", 8 << 20),
        ("64M", 64 << 20),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("64 M", 64 << 20),
        ("10GiB", 10 * GIB),
        ("1.5G", 3 * GIB // 2),
        ("2T", 2048 * GIB),
        ("1P", 1 << 50),
        ("100B", 4096),
        ("8388609", (8 << 20) + 4096),
        ("0", 0),
    ],
)
def test_sizes_are_dockers_and_become_whole_blocks(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "M", "-1M", "1e9", "1,5G", "64X", "64MM", "0x10", "64M ; rm", "\u0661\u0662M", ".5G", "5.G", "9999999999P"],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^cannot use -o size="):
        parse_options({"size": text}, GIB)


@given(st.integers(min_value=0, max_value=(1 << 63) - 4096).map(lambda size: size // 4096 * 4096))
def test_a_shown_size_means_itself(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_without_options_a_volume_is_a_filesystem_of_the_default_size() -> None:
    assert parse_options({}, GIB) == Loop(size=GIB, fs="ext4", sector=4096)


def test_every_option_is_taken() -> None:
    both = {"mount_opts": "noatime, nodev,noexec", "ro": "true", "uid": "5", "gid": "6", "mode": "1777"}
    loop = {"size": "128M", "fs": "btrfs", "sparse": "false", "sector": "512", "mkfs_opts": "-m single  -L 'data'"}
    loop["from"] = "w@s"
    assert parse_options({"backend": "loop", **loop, **both}, GIB) == Loop(
        size=128 << 20,
        fs="btrfs",
        sparse=False,
        sector=512,
        mkfs_opts=("-m", "single", "-L", "data"),
        mount_opts=("nodev", "noexec", "noatime"),
        ro=True,
        uid=5,
        gid=6,
        mode=0o1777,
        origin="w@s",
    )
    bind = {"source": "/srv/data", "create": "true", "subdir_per_volume": "true"}
    assert parse_options({"backend": "bind", **bind, **both}, GIB) == Bind(
        source="/srv/data",
        create=True,
        subdir_per_volume=True,
        mount_opts=("nodev", "noexec", "noatime"),
        ro=True,
        uid=5,
        gid=6,
        mode=0o1777,
    )
    assert parse_options({"reserve": "5", "label.a/b": "x=1", "label.Z": "ü"}, GIB) == Loop(
        size=GIB, fs="ext4", sector=4096, reserve=5, labels=(("Z", "ü"), ("a/b", "x=1"))
    )
    key = {"encrypt": "true", "key_file": "/keys//v"}
    assert parse_options(key, GIB) == Loop(size=GIB, fs="ext4", sector=4096, encrypt=True, key_file="/keys/v")
    command = parse_options({"encrypt": "true", "key_cmd": "/keys/get  v 'a b'"}, GIB)
    assert command == Loop(size=GIB, fs="ext4", sector=4096, encrypt=True, key_cmd=("/keys/get", "v", "a b"))
    assert parse_options(shown(command), GIB) == command
    assert parse_options({"pool": "fast"}, GIB) == Loop(size=GIB, fs="ext4", sector=4096, pool="fast")
    others = {"backend", "reserve", "label.*", "key_cmd", "pool"}
    assert {*loop, *bind, *both, *key, *others} == {option.key for option in OPTIONS}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"reserve": "51"}, "reserve=51: it takes a number from 0 to 50"),
        ({"reserve": "-1"}, "reserve=-1: it takes"),
        ({"reserve": "5", "fs": "xfs"}, "only ext4 keeps something for root"),
        ({"reserve": "5", "mkfs_opts": "-m 1"}, "they say the same"),
        ({"label.": "x"}, "label.=x: it takes 1 to 255 printable characters, after a name"),
        ({"label.a b": "x"}, "label.a b=x: it takes"),
        ({"label.a": ""}, "label.a=: it takes"),
        ({"label.a": "x\n"}, "it takes 1 to 255 printable"),
        ({"label.a": "x" * 256}, "it takes 1 to 255 printable"),
        ({"label": "x"}, "there is no such option"),
    ],
)
def test_what_is_no_label_and_no_reserve(given: dict[str, str], said: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(said)):
        parse_options(given, GIB)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"encrypt": "true"}, "give -o key_file=PATH or -o key_cmd=PROGRAM, where does the key come from?"),
        ({"encrypt": "true", "key_file": "/k", "key_cmd": "/c"}, "one of the two says where the key comes from"),
        ({"encrypt": "true", "key_file": "/k", "fs": "xfs"}, "with fs=xfs: only ext4 encrypts; leave out -o fs"),
        ({"encrypt": "true", "key_file": "/k", "mkfs_opts": "-O ^encrypt"}, "they say the opposite"),
        ({"encrypt": "true", "key_file": "k"}, "key_file=k: it takes an absolute path"),
        ({"encrypt": "true", "key_file": "/a/../k"}, "it takes an absolute path"),
        ({"encrypt": "true", "key_cmd": "get v"}, "key_cmd=get v: it takes an absolute path"),
        ({"encrypt": "true", "key_cmd": "/get 'v"}, "it takes an absolute path"),
        ({"encrypt": "true", "key_cmd": "/get 'v\n'"}, "it takes an absolute path"),
        ({"encrypt": "yes", "key_file": "/k"}, "encrypt=yes: it takes true or false"),
        ({"key_file": "/k"}, "cannot use -o key_file without -o encrypt=true: nothing is encrypted with it"),
        ({"key_cmd": "/c"}, "cannot use -o key_cmd without -o encrypt=true"),
        ({"backend": "bind", "source": "/srv", "encrypt": "true"}, "cannot use -o encrypt=true with backend=bind"),
    ],
)
def test_what_is_said_of_encryption_goes_together(given: dict[str, str], said: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(said)):
        parse_options(given, GIB)


def test_a_clone_is_encrypted_as_its_origin_and_a_key_may_move() -> None:
    volume = parse_options({"encrypt": "true", "key_file": "/k"}, GIB)
    clone = parse_options({"from": "v"}, GIB, volume)
    assert shown(clone) == shown(volume) | {"from": "v"}
    with pytest.raises(BadRequest, match="cannot use -o encrypt with -o from=v: it is as it is in that volume"):
        parse_options({"from": "v", "encrypt": "false", "key_file": "/k"}, GIB, volume)
    assert shown(parse_changes({"key_file": "", "key_cmd": "/c"}, volume))["key_cmd"] == "/c"
    with pytest.raises(BadRequest, match="where does the key come from"):
        parse_changes({"key_file": ""}, volume)
    with pytest.raises(BadRequest, match="cannot change -o encrypt: it is as it was made"):
        parse_changes({"encrypt": ""}, volume)


def test_labels_are_shown_and_compared_one_by_one() -> None:
    volume = parse_options({"label.a": "1", "label.b": "2"}, GIB)
    assert shown(volume)["label.b"] == "2"
    assert parse_options(shown(volume), GIB) == volume
    assert differing(volume, parse_options({"label.a": "1", "label.b": "3", "ro": "true"}, GIB)) == ["ro", "label.b"]
    assert isinstance(volume, Loop)
    assert parse_options({"from": "v"}, GIB, volume).labels == (), "a clone is another volume"


def test_what_may_change_later() -> None:
    volume = parse_options({"label.a": "1", "ro": "true", "mount_opts": "noatime"}, GIB)
    changed = parse_changes({"label.a": "", "label.b": "2", "ro": "", "reserve": "3"}, volume)
    before = shown(volume)
    assert (before.pop("label.a"), before.pop("ro")) == ("1", "true")
    assert shown(changed) == before | {"label.b": "2", "reserve": "3"}
    with pytest.raises(
        BadRequest, match="cannot change -o size: it is as it was made; pyvol resize changes it; what can"
    ):
        parse_changes({"size": "2G"}, volume)
    for key in ("fs", "from", "mkfs_opts", "uid", "sector", "backend", "device"):
        with pytest.raises(
            BadRequest, match=f"cannot change -o {key}: it is as it was made; what can be changed: sparse"
        ):
            parse_changes({key: ""}, volume)
    bind = parse_options({"backend": "bind", "source": "/srv"}, GIB)
    assert shown(parse_changes({"ro": "true", "label.a": "1"}, bind))["label.a"] == "1"
    with pytest.raises(BadRequest, match="cannot use -o reserve=5 with backend=bind"):
        parse_changes({"reserve": "5"}, bind)


@pytest.mark.parametrize(
    ("given", "bind"),
    [
        ({"type": "none", "o": "bind", "device": "/srv"}, Bind("/srv")),
        ({"type": "bind", "o": "bind,rw", "device": "/srv/"}, Bind("/srv")),
        ({"o": "bind,ro", "device": "/srv", "backend": "bind"}, Bind("/srv", ro=True)),
        ({"type": "none", "o": "ro,noexec,bind", "device": "/srv"}, Bind("/srv", ro=True, mount_opts=("noexec",))),
        ({"o": "bind", "device": "/srv", "create": "true", "mode": "700"}, Bind("/srv", create=True, mode=0o700)),
    ],
)
def test_the_local_drivers_spelling_of_a_bind(given: dict[str, str], bind: Bind) -> None:
    assert parse_options(given, GIB) == bind
    assert parse_options(shown(bind), GIB) == bind


@pytest.mark.parametrize("fs", MKFS_OPTIONS)
@pytest.mark.parametrize(
    "text",
    ["", "-", "-F", "-L", "-L a -L", "-L=a", "-E discard", "-b 1024", "-d /etc", "-r /etc", "-p /etc/passwd",
     "/dev/vda", "-L a;reboot", "-L $(id)", "-L -f", "-i 1 /dev/vda", "-L 'a b'", "-L 'a", "--rootdir /etc",
     "-d name=/dev/vda", "-d size=1g", "-l logdev=/dev/vda", "-O quota", "-O project", "-T ../x", "-m reflink=2",
     "-L a\0b"],
)  # fmt: skip
def test_mkfs_is_told_only_what_is_on_the_list(fs: str, text: str) -> None:
    with pytest.raises(BadRequest, match="cannot use -o mkfs_opts"):
        parse_options({"fs": fs, "mkfs_opts": text}, GIB)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"siz": "1G"}, "the nearest is size"),
        ({"filesystem": "ext4"}, "there is no such option"),
        ({"": "x"}, "there is no such option"),
        ({"fs": "ntfs"}, "it takes ext4"),
        ({"mkfs_opts": "-m single"}, "fs=ext4 does not take '-m single'; it takes -i -I"),
        ({"mount_opts": "exec"}, "any of nodev"),
        ({"mount_opts": "suid"}, "any of nodev"),
        ({"mount_opts": ""}, "any of nodev"),
        ({"mount_opts": "data=journal"}, "any of nodev"),
        ({"mount_opts": "compress=zstd:99", "fs": "btrfs"}, "any of nodev"),
        ({"mount_opts": "compress=lzo,compress=zlib", "fs": "btrfs"}, "any of nodev"),
        ({"mount_opts": "compress=lzo"}, "only btrfs compresses"),
        ({"mount_opts": "discard", "sparse": "false"}, "give back what is allocated"),
        ({"backend": "bind", "source": "/srv", "mount_opts": "discard"}, "the filesystem is the host's"),
        ({"backend": "bind", "source": "/srv", "uid": "5"}, "without create=true"),
        ({"uid": "root"}, "it takes a number"),
        ({"uid": "-1"}, "it takes a number"),
        ({"gid": "4294967295"}, "it takes a number"),
        ({"mode": "788"}, "an octal number"),
        ({"mode": "17777"}, "an octal number"),
        ({"mode": "rwx"}, "an octal number"),
        ({"ro": "yes"}, "it takes true or false"),
        ({"create": "true"}, "with backend=loop"),
        ({"type": "nfs", "o": "addr=1.2.3.4", "device": ":/x"}, "cannot use -o type=nfs: it takes none or bind"),
        ({"type": "tmpfs"}, "it takes none or bind"),
        ({"type": "none", "device": "/srv"}, "o=bind"),
        ({"o": "bind"}, "device=/path"),
        ({"o": "bind,suid", "device": "/srv"}, "bind and any of"),
        ({"o": "bind,ro,rw", "device": "/srv"}, "bind and any of"),
        ({"o": "bind", "device": "/srv/../etc"}, "an absolute path"),
        ({"o": "bind", "device": "/srv", "source": "/srv"}, "they say the same"),
        ({"o": "bind,ro", "device": "/srv", "ro": "false"}, "they say the same"),
        ({"o": "bind", "device": "/srv", "size": "1G"}, "with backend=bind"),
        ({"o": "bind", "device": "/srv", "backend": "loop"}, "-o device with backend=loop"),
        ({"sparse": "no"}, "it takes true or false"),
        ({"sector": "1024"}, "it takes 512 or 4096"),
        ({"backend": "nfs"}, "it takes loop or bind"),
        ({"size": "7M"}, "needs at least 8MiB"),
        ({"size": "0"}, "needs at least 8MiB"),
        ({"fs": "xfs", "size": "299M"}, "needs at least 300MiB"),
        ({"fs": "btrfs", "size": "108M"}, "needs at least 109MiB"),
        ({"backend": "bind"}, "without -o source="),
        ({"backend": "bind", "source": "/srv", "size": "1G"}, "with backend=bind, which takes backend, source, create"),
        ({"source": "/srv"}, "with backend=loop, which takes backend, size, fs"),
        ({"backend": "bind", "source": "srv"}, "an absolute path"),
        ({"backend": "bind", "source": "/srv/../etc"}, "an absolute path"),
        ({"backend": "bind", "source": "/srv\0/x"}, "an absolute path"),
        ({"backend": "bind", "source": "/" + "x" * 4096}, "an absolute path"),
        ({"backend": "bind", "source": ""}, "an absolute path"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_options(options, GIB)


@pytest.mark.parametrize(("text", "path"), [("/", "/"), ("//srv//a/", "/srv/a"), ("/srv/./a", "/srv/a")])
def test_one_directory_has_one_spelling(text: str, path: str) -> None:
    assert parse_options({"backend": "bind", "source": text}, GIB) == Bind(source=path)


@given(st.dictionaries(st.sampled_from([option.key for option in OPTIONS]) | st.text(), st.text()))
def test_any_text_gives_options_or_a_bad_request(options: dict[str, str]) -> None:
    try:
        parsed = parse_options(options, GIB)
    except BadRequest:
        return
    assert parse_options(shown(parsed), GIB) == parsed


def test_differences_are_named_in_the_order_of_the_table() -> None:
    one = Loop(size=GIB, fs="ext4", sector=4096)
    assert differing(one, Loop(size=2 * GIB, fs="ext4", sector=4096)) == ["size"]
    assert differing(one, Bind(source="/srv")) == ["backend", "size", "fs", "source"]
    assert differing(Bind(source="/srv"), Bind(source="/srv")) == []


def test_records_of_earlier_versions_mean_what_they_meant() -> None:
    old = b'{"name":"v","options":{"backend":"loop","size":67108864,"fs":"ext4"},"created_at":"2026-01-01T00:00:00Z"}'
    volume = wire.decode(old, Volume)
    assert volume.options == Loop(size=64 << 20, fs="ext4", sparse=True, sector=512)
    assert parse_options({"size": "64M"}, GIB, volume.options) == volume.options
    bound = wire.decode(b'{"name":"b","options":{"backend":"bind","source":"/srv"},"created_at":null}', Volume)
    assert bound.options == Bind(source="/srv")


def test_the_documentation_has_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "options-pyvol.md"
    assert describe_options() in page.read_text()
