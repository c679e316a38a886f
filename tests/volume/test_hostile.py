"""A hundred hostile names, paths and values: an error for each, which names the thing, and nothing is touched by it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import exchange
from tests.volume.conftest import LIBC, attached_below, mounted_below
from tests.volume.serving import Service

AT_FDCWD, RENAME_EXCHANGE = -100, 2
LONG = "x" * 256
NAMES = (
    "", ".", "..", "...", ".hidden", ".trash", ".snapshots", ".trashed", ".staged", "/", "//", "/etc/passwd", "../v",
    "../../etc", "a/b", "a/", "/a", "a/../b", "a\\b", "-rf", "--help", "_x", "@", "v@s", "~", "~root", "v~1", "a b",
    " a", "a ", "a\tb", "a\nb", "a\0b", "\0", "a;b", "a|b", "$(id)", "`id`", "${HOME}", "%2e%2e%2f", "a%00b", "*", "?",
    "a:b", "a,b", "a=b", "ünï", "\u202ev", "\ud7ff", "v\u0300", "\U0001f600", LONG,
)  # fmt: skip
OPTIONS = (
    ("size", ""), ("size", "-1"), ("size", "0"), ("size", "NaN"), ("size", "1e400"), ("size", "9" * 400), ("size", "∞"),
    ("size", "64M;id"), ("size", "../64M"), ("fs", "ext2"), ("fs", "../ext4"), ("fs", "ext4,xfs"), ("fs", "EXT4"),
    ("backend", "../loop"), ("backend", ""), ("sparse", "yes"), ("sector", "511"), ("sector", "-512"),
    ("mkfs_opts", "-d /etc"), ("mkfs_opts", "-E root_owner=0:0,offset=4096"), ("mkfs_opts", "-J device=/dev/sda"),
    ("mkfs_opts", "-F /dev/sda"), ("mkfs_opts", "-L '"), ("mkfs_opts", "-i 1\n-d /etc"), ("mkfs_opts", "-L ../../x"),
    ("mount_opts", "suid"), ("mount_opts", "dev"), ("mount_opts", "exec,remount"), ("mount_opts", "errors=panic"),
    ("mount_opts", "data=/etc"), ("mount_opts", "noatime,,"), ("mount_opts", "subvol=/"), ("mount_opts", "loop=/dev/a"),
    ("uid", "-1"), ("uid", "4294967295"), ("uid", "root"), ("gid", "0x10"), ("mode", "999"), ("mode", "777777"),
    ("mode", "u+s"), ("ro", "TRUE"), ("from", "../v"), ("from", "v@../s"), ("from", "/etc/passwd"), ("from", "nobody"),
    ("from", "kept@"), ("from", "kept@s@t"), ("from", "x"), ("reserve", "100"), ("label.", "x"), ("label.../x", "\n"),
    ("label.a", "\0"), ("o", "bind"), ("device", "/etc"), ("type", "nfs"), ("__class__", "x"), ("Size", "64M"),
    ("", "x"), (LONG, "x"), ("size=64M", "x"), ("k" * 40 + "\n", "x"),
)  # fmt: skip
# {allowed}: below which may be mounted; {outside}: a directory beside it.
SOURCES = (
    "", "relative", "{allowed}/../outside", "{allowed}/./../outside", "{outside}", "/", "/etc", "/proc/self/root",
    "/proc/self/cwd", "{allowed}-sibling", "{allowed}/link", "{allowed}/link/secret", "{allowed}/deep/up/outside",
    "{allowed}/magic", "{allowed}/dangling", "{allowed}/file", "{allowed}/missing", "{allowed}/\0", "{allowed}/" + LONG,
    "/" + "a/" * 3000,
)  # fmt: skip
SNAPSHOTS = (
    "kept", "kept@", "@s", "@", "kept@../s", "kept@/etc/passwd", "kept@.s", "kept@a b", "kept@" + "s" * 129,
    "../kept@s", "kept@s@t", "kept@\ns", "kept@s~1", "kept@-s",
)  # fmt: skip


def tree(directory: Path, but: Path) -> dict[str, object]:
    """Return everything that can be known of what is below the directory, except in `but`."""
    found: dict[str, object] = {}
    for path in sorted(directory.rglob("*")):
        if not path.is_relative_to(but):
            stat = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path)] = (stat.st_ino, stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime_ns, content)
    return found


class Scene:
    """A plugin with one volume, and around it what it must not touch."""

    def __init__(self, directory: Path) -> None:
        self.around = directory / "around"
        self.allowed, self.outside = self.around / "allowed", self.around / "outside"
        for path in (self.allowed / "deep", self.outside, self.around / "allowed-sibling"):
            path.mkdir(parents=True)
        (self.outside / "secret").write_text("secret")
        (self.allowed / "file").write_text("mine")
        (self.allowed / "link").symlink_to(self.outside)
        (self.allowed / "deep" / "up").symlink_to("../..")
        (self.allowed / "magic").symlink_to("/proc/self/root")
        (self.allowed / "dangling").symlink_to("/nowhere")
        self.service = Service(directory, "--bind-root", str(self.allowed), "--reconcile-every", "3600")
        self.service.call("Create", Name="kept", Opts={"size": "32M"})
        self.before = self.look()

    def look(self) -> tuple[object, ...]:
        state = self.service.state_dir
        files = sorted(str(path) for path in (state / "volumes").rglob("*"))
        return tree(self.around, state), files, mounted_below(state), attached_below(state)

    def refused(self, method: str, named: str, **request: object) -> None:
        """The request was an error that says which thing was wrong, and has changed nothing."""
        status, answer = self.service.ask(f"VolumeDriver.{method}", request)
        said = str(answer["Err"])
        assert status in (400, 500), (request, answer)
        assert said.startswith("cannot "), (request, said)
        assert "internal error" not in said
        assert repr(named[:40])[1:-1] in said or named[:40] in said, (request, said)


@pytest.fixture
def scene(mount_namespace: None, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.service.kill()


def test_they_are_a_hundred() -> None:
    assert len({*NAMES, *OPTIONS, *SOURCES, *SNAPSHOTS}) >= 100


def test_names(scene: Scene) -> None:
    for name in NAMES:
        for method in ("Create", "Remove", "Path", "Get"):
            scene.refused(method, name, Name=name)
        for method in ("Mount", "Unmount"):
            scene.refused(method, name, Name=name, ID="c")
            if not name or not name.isprintable() or len(name) > 255:
                scene.refused(method, name, Name="kept", ID=name)
    assert scene.look() == scene.before
    assert [volume["Name"] for volume in scene.service.call("List")["Volumes"]] == ["kept"]


def test_options(scene: Scene) -> None:
    for key, value in OPTIONS:
        # What is copied from is a name, and said to be one.
        scene.refused("Create", "name" if key == "from" else key, Name="x", Opts={key: value})
    assert scene.look() == scene.before


def test_sources(scene: Scene) -> None:
    for spelled in SOURCES:
        source = spelled.format(allowed=scene.allowed, outside=scene.outside)
        scene.refused("Create", source, Name="x", Opts={"backend": "bind", "source": source})
        scene.refused("Create", source, Name="x", Opts={"type": "none", "o": "bind", "device": source})
    assert scene.look() == scene.before


def test_snapshots(scene: Scene) -> None:
    for snapshot in SNAPSHOTS:
        for method in ("Create", "Remove", "Restore"):
            body = json.dumps({"Snapshot": snapshot}).encode()
            socket = scene.service.state_dir / "admin.sock"
            status, answer = exchange(socket, "POST", f"v1/Snapshots.{method}", body)
            assert (status, answer["Err"][:11]) == (400, "cannot use "), (snapshot, answer)
    assert scene.look() == scene.before


def test_links_that_come_between_check_and_use(scene: Scene) -> None:
    """Whatever a directory on the way is swapped for meanwhile, nothing is made or mounted elsewhere."""
    step, link = scene.allowed / "step", scene.allowed / "other"
    link.symlink_to(scene.outside)
    step.mkdir()
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            # At no moment is there nothing of that name, which may be made.
            LIBC.renameat2(AT_FDCWD, bytes(step), AT_FDCWD, bytes(link), RENAME_EXCHANGE)

    swapper = threading.Thread(target=swap)
    swapper.start()
    made = 0
    try:
        for number in range(150):
            name, source = f"v{number}", f"{step}/sub{number}"
            options = {"backend": "bind", "source": source, "create": "true"}
            status, answer = scene.service.ask("VolumeDriver.Create", {"Name": name, "Opts": options})
            if status == 200:
                made += 1
                status, answer = scene.service.ask("VolumeDriver.Mount", {"Name": name, "ID": "c"})
                if status == 200:
                    assert not (Path(answer["Mountpoint"]) / "secret").exists()
                    scene.service.call("Unmount", Name=name, ID="c")
                scene.service.call("Remove", Name=name)
            else:
                assert source in answer["Err"]
    finally:
        ended.set()
        swapper.join()
    assert 0 < made < 150, "it was never put to the test"
    assert [path.name for path in scene.outside.iterdir()] == ["secret"]
    assert mounted_below(scene.service.state_dir) == []
