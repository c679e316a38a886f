"""Archives of volumes and the way back, by the command line, beside a plugin that serves, on real loop devices."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import sqlite3
import subprocess
import termios
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pluginkit.admin import call
from tests.serving import INTERRUPTIBLE, until
from tests.volume.administrator import PYVOL, Administrator
from tests.volume.serving import Service
from volplugin.admin.wire import SnapshotRequest

MEBIBYTE = 1 << 20


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.write_bytes(os.urandom(32))
    return str(path)


def mount(service: Service, name: str) -> Path:
    return Path(service.call("Mount", Name=name, ID="c")["Mountpoint"])


def files(service: Service) -> list[str]:
    """Return every file that volumes, snapshots or what is on its way to be one consist of."""
    root = service.state_dir / "volumes"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_a_volume_in_use_and_its_equal(
    service: Service, admin: Administrator, tmp_path: Path, fs: str, key: str
) -> None:
    options = {"fs": fs, "size": "320M", "mount_opts": "noatime", "uid": "5", "mode": "0750", "label.of": "a" * 250}
    service.call("Create", Name="v", Opts=options)
    place = mount(service, "v")
    content = random.Random(fs).randbytes(5 * MEBIBYTE + 123)
    (place / "file").write_bytes(content)
    said = admin.run("backup", "v", "--to", f"{tmp_path}/plain")
    admin.run("backup", "v", "--to", f"{tmp_path}/sealed", "--key-file", key)
    (place / "file").write_text("after")
    assert said.startswith("v: 320MiB, ")
    assert files(service) == [f"v/image.{fs}"]
    assert admin.run("snapshot", "ls").splitlines()[1:] == []
    assert (tmp_path / "plain").stat().st_size < 12 * MEBIBYTE
    assert content[:64] in (tmp_path / "plain").read_bytes()
    assert content[:64] not in (tmp_path / "sealed").read_bytes()
    assert admin.run("restore", "--check", f"{tmp_path}/plain").split()[-1] == said.split()[-1]
    admin.run("restore", f"{tmp_path}/plain", "--as", "w")
    admin.run("restore", f"{tmp_path}/sealed", "--as", "x", "--key-file", key, "-o", "mount_opts=noexec")
    for name in "wx":
        copy = mount(service, name)
        assert (copy / "file").read_bytes() == content
        assert (copy.stat().st_uid, copy.stat().st_mode & 0o777) == (5, 0o750)
        (copy / "file").write_text("of the other")
    assert (place / "file").read_text() == "after"
    one, two = (service.status(name) for name in "vw")
    assert {key: two[key] for key in (*options, "size_bytes")} == {key: one[key] for key in (*options, "size_bytes")}
    assert service.status("x")["mount_opts"] == "noexec"
    assert two["allocated_bytes"] < 40 * MEBIBYTE
    for name in "vwx":
        service.call("Unmount", Name=name, ID="c")
    service.kill()
    service.start()
    assert (mount(service, "w") / "file").read_text() == "of the other"


def test_one_pipe_and_one_url(service: Service, admin: Administrator, tmp_path: Path) -> None:
    service.call("Create", Name="v", Opts={"size": "16M", "sparse": "false"})
    (mount(service, "v") / "file").write_text("kept")
    state = ["--state-dir", str(service.state_dir)]
    with subprocess.Popen([PYVOL, "backup", "v", *state], stdout=subprocess.PIPE) as backup:
        subprocess.run([PYVOL, "restore", "-", "--as", "w", *state], stdin=backup.stdout, check=True, timeout=60)
    assert (mount(service, "w") / "file").read_text() == "kept"
    assert service.status("w")["allocated_bytes"] >= 16 * MEBIBYTE
    admin.run("snapshot", "create", "v@s")
    (service.mount_root / "v" / "_data" / "file").write_text("later")
    said = admin.run("backup", "v@s", "--to", f"file://{tmp_path}/a")
    assert admin.run("restore", f"file://{tmp_path}/a", "--as", "x").split()[-1] == said.split()[-1]
    volumes = service.state_dir / "volumes"
    assert (volumes / "x" / "image.ext4").read_bytes() == (volumes / ".snapshots" / "v" / "s.ext4").read_bytes()
    assert (mount(service, "x") / "file").read_text() == "kept"
    assert "cannot write " in admin.error("backup", "v", "--to", f"file://{tmp_path}/a")
    assert "cannot use nonsense://x: " in admin.error("backup", "v", "--to", "nonsense://x")
    assert "No such file" in admin.error("restore", f"file://{tmp_path}/none")


def test_what_is_refused(service: Service, admin: Administrator, tmp_path: Path, key: str) -> None:
    service.call("Create", Name="v", Opts={"size": "16M"})
    plain, sealed, short = (str(tmp_path / name) for name in ("plain", "sealed", "short"))
    admin.run("backup", "v", "--to", plain)
    admin.run("backup", "v", "--to", sealed, "--key-file", key)
    Path(short).write_bytes(b"secret")
    (tmp_path / "other").write_bytes(os.urandom(32))
    before = files(service)
    for words, said in (
        (["backup", "v", "--to", plain], f"cannot write {plain}: it exists; give another name"),
        (["backup", "w", "--to", f"{tmp_path}/new"], "cannot find the volume w"),
        (["backup", "v@s", "--to", f"{tmp_path}/new"], "cannot open "),
        (["backup", "v", "--to", f"{tmp_path}/none/new"], f"cannot write {tmp_path}/none/new: No such file"),
        (["backup", "v", "--to", f"{tmp_path}/new", "--key-file", short], "it has to have 32 to 65536 bytes"),
        (["restore", plain], "cannot restore v: there is a volume of that name; give another one with --as"),
        (["restore", plain, "--as", "../w"], "cannot use '../w' as a volume name"),
        (["restore", plain, "--as", "w", "-o", "fs=xfs"], "cannot use -o fs with an archive"),
        (["restore", plain, "--as", "w", "-o", "from=v"], "neither a directory of the host nor a clone"),
        (["restore", plain, "--as", "w", "-o", "sice=1"], "the nearest is size"),
        (["restore", plain, "--as", "w", "-o", "size=9P"], "cannot give w 9PiB: the disk has"),
        (["restore", plain, "--as", "w", "-o", "size=8M"], "its filesystem has 16777216 bytes and should have 8388608"),
        (["restore", plain, "--as", "w", "--key-file", key], "it is not encrypted; leave out --key-file"),
        (["restore", sealed, "--as", "w"], "it is encrypted; give --key-file"),
        (["restore", sealed, "--as", "w", "--key-file", f"{tmp_path}/other"], "or the key is another one"),
        (["restore", plain, plain, "--as", "w"], "it is whole in itself, and must be the first one"),
        (["restore", short, "--as", "w"], "it ends too early"),
        (["restore", f"{tmp_path}/none", "--as", "w"], "No such file"),
    ):
        assert said in admin.error(*words), words
    assert files(service) == before
    assert not (tmp_path / "new").exists()
    assert [volume["Name"] for volume in service.call("List")["Volumes"]] == ["v"]


def test_damage_of_every_sort_is_refused_and_changes_nothing(
    service: Service, admin: Administrator, tmp_path: Path, key: str
) -> None:
    """What the many in test_archive_frames show of the format, of the command, too."""
    service.call("Create", Name="v", Opts={"size": "16M"})
    admin.run("backup", "v", "--to", f"{tmp_path}/whole", "--key-file", key)
    whole = (tmp_path / "whole").read_bytes()
    before = files(service)
    for damaged in (b"", whole[:-1], whole[: len(whole) // 2], whole + b"x", whole[:99] + b"~" + whole[100:]):
        (tmp_path / "damaged").write_bytes(damaged)
        assert "cannot use the archive" in admin.error("restore", f"{tmp_path}/damaged", "--as", "w", "--key-file", key)
        assert files(service) == before
    assert "w" not in admin.run("ls")


def test_whoever_is_killed_leaves_nothing(service: Service, admin: Administrator, tmp_path: Path) -> None:
    service.call("Create", Name="v", Opts={"size": "64M"})
    (mount(service, "v") / "file").write_bytes(os.urandom(20 * MEBIBYTE))
    state = ["--state-dir", str(service.state_dir)]
    with (
        subprocess.Popen([PYVOL, "backup", "v", *state], stdout=subprocess.PIPE) as backup,
        (tmp_path / "whole").open("wb") as out,
    ):
        assert backup.stdout is not None
        out.write(backup.stdout.read(4 * MEBIBYTE))
        assert admin.run("snapshot", "ls").splitlines()[1:] == []
        backup.kill()
    with subprocess.Popen([PYVOL, "restore", "-", "--as", "w", *state], stdin=subprocess.PIPE) as restore:
        assert restore.stdin is not None
        restore.stdin.write((tmp_path / "whole").read_bytes()[: 3 * MEBIBYTE])
        restore.stdin.flush()
        opened = Path(f"/proc/{restore.pid}/fd")
        until(lambda: any("deleted" in str(fd.readlink()) for fd in opened.iterdir()), "a file without a name")
        assert files(service) == ["v/image.ext4"]
        restore.kill()
    assert files(service) == ["v/image.ext4"]
    assert "w" not in admin.run("ls")


def test_a_bar_on_a_terminal_and_an_end_by_hand(service: Service, tmp_path: Path) -> None:
    service.call("Create", Name="v", Opts={"size": "128M"})
    (mount(service, "v") / "file").write_bytes(os.urandom(100 * MEBIBYTE))
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    out = tmp_path / "out"
    words = [*INTERRUPTIBLE, PYVOL, "backup", "v", "--to", out, "--state-dir", service.state_dir]
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as backup:
        os.close(theirs)
        seen = b""
        while b"backup of v" not in seen or b"/s" not in seen:
            seen += os.read(ours, 1000)
        backup.send_signal(signal.SIGINT)
        try:
            while said := os.read(ours, 1000):
                seen += said
        except OSError:
            # That is how a terminal ends.
            pass
        assert backup.wait(timeout=60) == 130
    os.close(ours)
    assert not out.exists()
    assert b"Traceback" not in seen
    assert files(service) == ["v/image.ext4"]


def test_what_a_command_that_was_killed_in_the_wrong_moment_left_is_swept(
    service: Service, admin: Administrator, tmp_path: Path
) -> None:
    """The moments in which something has a name: nothing is swept in the minute in which somebody may still come."""
    service.call("Create", Name="v", Opts={"size": "16M"})
    admin.run("snapshot", "create", "v@mine")
    call("pyvol", service.state_dir, "Snapshots.Create", SnapshotRequest("v@backup-1", Transient=True), dict)
    staged = service.state_dir / "volumes" / ".staged"
    staged.mkdir()
    (staged / ("0" * 32)).write_bytes(b"half")
    service.kill()
    service.start()
    assert len(files(service)) == 4
    service.kill()
    # Two minutes later.
    with sqlite3.connect(service.state_dir / "pyvol.db") as connection:
        [(current,)] = connection.execute("SELECT current FROM record WHERE id = 'v@backup-1'")
        earlier = datetime.now(UTC) - timedelta(minutes=2)
        record = json.dumps(json.loads(current) | {"created_at": f"{earlier:%Y-%m-%dT%H:%M:%SZ}"})
        connection.execute("UPDATE record SET current = ? WHERE id = 'v@backup-1'", (record,))
    connection.close()
    os.utime(staged / ("0" * 32), (earlier.timestamp(), earlier.timestamp()))
    service.start()
    assert files(service) == [".snapshots/v/mine.ext4", "v/image.ext4"]
    assert [line.split()[0] for line in admin.run("snapshot", "ls").splitlines()[1:]] == ["v@mine"]
