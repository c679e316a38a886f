"""The files of a volume as a plain tar, and the way back: by the command line, beside a plugin that serves."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving import until
from tests.volume.administrator import PYVOL, Administrator
from tests.volume.conftest import attached_below
from tests.volume.serving import Service
from tests.volume.test_archives import MEBIBYTE, files, mount

Make = Callable[[tarfile.TarFile], None]


def fill(place: Path) -> None:
    """One of each sort of file."""
    (place / "file").write_text("kept")
    os.chown(place / "file", 1234, 4321)
    (place / "file").chmod(0o4751)
    os.utime(place / "file", ns=(10**18 + 7, 10**18 + 123_456_789))
    os.setxattr(place / "file", "user.colour", b"blue\0")
    os.setxattr(place / "file", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.link(place / "file", place / "again")
    (place / "directory").mkdir(mode=0o1777)
    (place / "directory").chmod(0o1777)
    os.chown(place / "directory", 5, 6)
    (place / "directory" / ("long " * 40)).write_text("long")
    (place / "away").symlink_to("/nowhere/at all")
    os.mkfifo(place / "pipe")
    with (place / "holes").open("wb") as file:
        file.truncate(50 * MEBIBYTE)
        file.seek(30 * MEBIBYTE)
        file.write(b"in the middle")


def told(place: Path) -> dict[str, object]:
    """Return all that there is to know of the files."""
    found: dict[str, object] = {}
    for path in (place, *sorted(place.rglob("*"))):
        stat = path.lstat()
        keys = os.listxattr(path, follow_symlinks=False)
        attributes = {key: os.getxattr(path, key, follow_symlinks=False) for key in keys}
        content: object = None
        if path.is_symlink():
            content = path.readlink()
        elif path.is_file():
            content = path.read_bytes()
        times = stat.st_mtime_ns if path != place else 0
        number = stat.st_nlink if path.is_file() else 0
        whose = stat.st_mode, stat.st_uid, stat.st_gid
        found[str(path.relative_to(place))] = (*whose, number, times, attributes, content)
    return found


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_every_sort_of_file_and_the_way_back(service: Service, admin: Administrator, tmp_path: Path, fs: str) -> None:
    service.call("Create", Name="v", Opts={"fs": fs, "size": "320M", "uid": "7", "mode": "0750"})
    place = mount(service, "v")
    fill(place)
    before = told(place)
    admin.run("snapshot", "create", "v@s")
    said = admin.run("export", "v", "--to", str(tmp_path / "now.tar"))
    (place / "file").unlink()
    admin.run("export", "v@s", "--to", str(tmp_path / "then.tar"))
    assert (tmp_path / "now.tar").stat().st_size < MEBIBYTE
    assert files(service) == [f".snapshots/v/s.{fs}", f"v/image.{fs}"]
    with tarfile.open(tmp_path / "now.tar") as read:
        assert {"./file", "./again", "./holes", "./directory"} <= set(read.getnames())
    options = ["-o", f"fs={fs}", "-o", "size=400M"]
    assert admin.run("import", "w", "--from", str(tmp_path / "now.tar"), *options).split()[-1] == said.split()[-1]
    admin.run("import", "then", "--from", str(tmp_path / "then.tar"), *options)
    copy = mount(service, "w")
    assert told(copy) == before == told(mount(service, "then"))
    assert (copy / "holes").stat().st_blocks * 512 < MEBIBYTE
    assert service.status("w")["size"] == "400MiB"
    for name in ("v", "w", "then"):
        service.call("Unmount", Name=name, ID="c")
    until(lambda: attached_below(tmp_path) == [], "the devices to be free")
    # From one volume to another of another kind.
    state = ["--state-dir", str(service.state_dir)]
    other = {"ext4": "xfs", "xfs": "btrfs", "btrfs": "ext4"}[fs]
    with subprocess.Popen([PYVOL, "export", "w", *state], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as export:
        words = [PYVOL, "import", "x", "-o", f"fs={other}", "-o", "size=320M", *state]
        subprocess.run(words, stdin=export.stdout, check=True, timeout=60, stdout=subprocess.DEVNULL)
    assert told(mount(service, "x")) == before


def member(name: str, content: bytes = b"", **fields: object) -> Make:
    def make(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        for key, value in fields.items():
            setattr(info, key, value)
        archive.addfile(info, io.BytesIO(content))

    return make


LINK = {"type": tarfile.SYMTYPE}
HARD = {"type": tarfile.LNKTYPE}


@pytest.mark.parametrize(
    "members",
    [
        [member("../escaped", b"x")],
        [member("a/../../escaped", b"x")],
        [member("{outside}/escaped", b"x")],
        [member("link", linkname="{outside}", **LINK), member("link/escaped", b"x")],
        [member("link", linkname="../../..", **LINK), member("link/escaped", b"x")],
        [member("a", linkname="..", **LINK), member("b", linkname="a/..", **LINK), member("b/escaped", b"x")],
        [member("hard", linkname="../../../victim", **HARD)],
        [member("hard", linkname="{outside}/victim", **HARD), member("hard", b"x")],
        [member("link", linkname="{outside}/victim", **LINK), member("link", b"x"), member("../escaped", b"x")],
        [member("large", bytes(20 * MEBIBYTE))],
    ],
    ids=[
        "dots",
        "within",
        "absolute",
        "link",
        "dotted link",
        "two links",
        "hard",
        "absolute hard",
        "over",
        "large",
    ],
)
def test_archives_that_mean_harm(service: Service, admin: Administrator, tmp_path: Path, members: list[Make]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("unharmed")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for make in (member("first", b"x"), *members):
            make(archive)
    if "{outside}" in (tmp_path / "a.tar").read_bytes().decode("latin-1"):
        with tarfile.open(tmp_path / "a.tar") as read, tarfile.open(tmp_path / "b.tar", "w") as written:
            for info in read.getmembers():
                content = read.extractfile(info) if info.isreg() else None
                info.name, info.linkname = (text.format(outside=outside) for text in (info.name, info.linkname))
                written.addfile(info, content)
        (tmp_path / "b.tar").rename(tmp_path / "a.tar")
    said = admin.error("import", "v", "--from", str(tmp_path / "a.tar"), "-o", "size=16M")
    assert said.startswith("pyvol: cannot import the archive: cannot run tar: ")
    assert said.endswith("; nothing was made of it")
    assert [path.name for path in outside.iterdir()] == ["victim"]
    assert (outside / "victim").read_text() == "unharmed"
    assert list(tmp_path.rglob("escaped")) == []
    assert files(service) == []
    assert admin.run("ls").splitlines()[1:] == []
    until(lambda: attached_below(tmp_path) == [], "the devices to be free")


def test_what_is_no_tar_and_what_cannot_be_made(service: Service, admin: Administrator, tmp_path: Path) -> None:
    service.call("Create", Name="v", Opts={"size": "16M"})
    (tmp_path / "none.tar").write_bytes(os.urandom(20480))
    (tmp_path / "cut.tar").write_bytes(b"")
    with tarfile.open(tmp_path / "good.tar", "w") as archive:
        member("file", os.urandom(MEBIBYTE))(archive)
    (tmp_path / "cut.tar").write_bytes((tmp_path / "good.tar").read_bytes()[: MEBIBYTE // 2])
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as archive:
        member("file", b"x")(archive)
    small, bound = ("-o", "size=1M"), ("-o", "backend=bind", "-o", "source=/srv")
    for name, archive_name, options, said in (
        ("w", "none.tar", (), "This does not look like a tar archive"),
        ("w", "cut.tar", (), "Unexpected EOF in archive"),
        ("w", "packed.tar", (), "Archive is compressed"),
        ("v", "good.tar", (), "there is a volume of that name"),
        ("w", "good.tar", small, "fs=ext4 needs at least 8MiB"),
        ("w", "good.tar", bound, "neither a directory of the host nor a clone"),
        ("w", "missing.tar", (), "No such file"),
    ):
        given = options or ("-o", "size=16M")
        assert said in admin.error("import", name, "--from", str(tmp_path / archive_name), *given)
    assert "cannot find the volume w" in admin.error("export", "w", "--to", str(tmp_path / "w.tar"))
    assert files(service) == ["v/image.ext4"]
    assert not list(tmp_path.glob("w.tar*"))


def test_one_that_is_killed_leaves_nothing(service: Service, admin: Administrator, tmp_path: Path) -> None:
    words = [PYVOL, "import", "w", "-o", "size=64M", "--state-dir", str(service.state_dir)]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        member("file", os.urandom(20 * MEBIBYTE))(archive)
    with subprocess.Popen(words, stdin=subprocess.PIPE) as importing:
        assert importing.stdin is not None
        importing.stdin.write(content.getvalue()[: 10 * MEBIBYTE])
        importing.stdin.flush()
        assert attached_below(tmp_path) != []
        # A look at everything does not take it away.
        service.kill()
        service.start()
        assert attached_below(tmp_path) != []
        assert "swept" not in service.log()
        importing.kill()
    until(lambda: attached_below(tmp_path) == [], "the device to be free")
    assert files(service) == []
    assert admin.run("ls").splitlines()[1:] == []
