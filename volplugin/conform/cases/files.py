"""Names, links, modes, times and locks of files, as POSIX and Linux have them."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pluginkit import command
from pluginkit.conform.case import expect
from volplugin.conform.case import Area
from volplugin.conform.stage import Stage, at_once

case = Area("files")
_POSIX = "POSIX.1-2017"
_ROUNDS = 300


def _refused(code: int, what: Callable[[], object]) -> None:
    try:
        what()
    except OSError as exc:
        expect(exc.errno == code, f"it is refused by {exc}, not by {errno.errorcode[code]}")
        return
    expect(False, f"it is not refused ({errno.errorcode[code]})")


@case("name-any", f"{_POSIX}, 4.13 pathname resolution; ext4, xfs: any bytes but / and NUL")
def name_any(stage: Stage) -> None:
    """Names are any bytes, up to 255 of them; longer ones are refused (ENAMETOOLONG)."""
    folder = stage.folder()
    chosen = [bytes([byte]) * 3 for byte in range(1, 256) if byte != ord("/")] + [b"n" * 255, b"-", b"a\nb"]
    for name in map(os.fsdecode, chosen):
        os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    expect({path.name for path in folder.iterdir()} == set(map(os.fsdecode, chosen)), "other names are listed")
    _refused(errno.ENAMETOOLONG, (folder / ("n" * 256)).mkdir)


@case("name-case", f"{_POSIX}, 3.170 filename")
def name_case(stage: Stage) -> None:
    """Names that differ in case or in Unicode's form only are apart."""
    folder = stage.folder()
    for name in ("a", "A", "\u00e9", "e\u0301"):
        (folder / name).write_text(name)
    expect(
        sorted(path.read_text() for path in folder.iterdir()) == ["A", "a", "e\u0301", "\u00e9"], "some are the same"
    )


@case("rename-atomic", f"{_POSIX}, rename()")
def rename_atomic(stage: Stage) -> None:
    """Who opens a file that is replaced by renaming finds the old one or the new one, whole, never none."""
    folder = stage.folder()
    target, ended, wrong = folder / "target", threading.Event(), list[str]()
    target.write_bytes(b"0" * 4096)

    def look() -> None:
        while not ended.is_set():
            try:
                content = target.read_bytes()
            except OSError as exc:
                wrong.append(str(exc))
                return
            if len(content) != 4096 or content.strip(content[:1]):
                wrong.append("it was half a file")
                return

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(_ROUNDS):
        (folder / "new").write_bytes(b"%d" % (number % 10) * 4096)
        (folder / "new").rename(target)
    ended.set()
    reader.join()
    expect(not wrong, wrong[0] if wrong else "")


@case("rename-open", f"{_POSIX}, rename(), unlink()")
def rename_open(stage: Stage) -> None:
    """An open file that is replaced or removed is read and written until it is closed."""
    folder = stage.folder()
    (folder / "old").write_text("old")
    (folder / "new").write_text("new")
    with (folder / "old").open("r+") as file:
        (folder / "new").rename(folder / "old")
        file.write("OLD")
        file.seek(0)
        expect(file.read() == "OLD", "it reads something else")
        expect(os.fstat(file.fileno()).st_nlink == 0, "it has a name")
    expect((folder / "old").read_text() == "new", "the new file is not what it was")


@case("rename-folder", f"{_POSIX}, rename(): ENOTEMPTY, EINVAL, EISDIR")
def rename_folder(stage: Stage) -> None:
    """A directory replaces an empty one, not a full one, and is not moved into itself."""
    folder = stage.folder()
    for name in ("full/inner", "empty", "third"):
        (folder / name).mkdir(parents=True)
    (folder / "third" / "file").write_text("x")
    (folder / "third").rename(folder / "empty")
    expect((folder / "empty" / "file").exists(), "it did not come with what is in it")
    with suppress(FileExistsError):  # POSIX has both errors
        _refused(errno.ENOTEMPTY, lambda: (folder / "empty").rename(folder / "full"))
    _refused(errno.EINVAL, lambda: (folder / "full").rename(folder / "full" / "inner" / "self"))
    (folder / "file").write_text("x")
    _refused(errno.EISDIR, lambda: (folder / "file").rename(folder / "full"))


@case("exclusive", f"{_POSIX}, open(): O_EXCL")
def exclusive(stage: Stage) -> None:
    """Of eight that create the same file exclusively at once, one succeeds, a hundred times."""
    folder = stage.folder()
    for number in range(100):
        path = folder / str(number)

        def wins(path: Path = path) -> bool:
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                return False
            return True

        won = sum(wins() for _ in range(2)) if number % 10 else sum(at_once([wins] * 8))
        expect(won == 1, f"{won} have created it")


@case("links-hard", f"{_POSIX}, link()")
def links_hard(stage: Stage) -> None:
    """A file has as many names as were given to it, and is there until the last is gone."""
    folder = stage.folder()
    (folder / "0").write_text("x")
    for number in range(1, 20):
        os.link(folder / "0", folder / str(number))
    expect((folder / "7").stat().st_nlink == 20, f"it has {(folder / '7').stat().st_nlink} names")
    for number in range(19):
        (folder / str(number)).unlink()
    expect((folder / "19").read_text() == "x", "under its last name it is something else")
    expect((folder / "19").stat().st_nlink == 1, "it has more names than one")
    _refused(errno.EPERM, lambda: os.link(folder, folder / "loop"))


@case("links-symbolic", f"{_POSIX}, symlink(): ELOOP")
def links_symbolic(stage: Stage) -> None:
    """Symbolic links of any length lead where they say, nowhere, or round in circles (ELOOP)."""
    folder = stage.folder()
    (folder / "file").write_text("x")
    (folder / "relative").symlink_to("file")
    (folder / "nowhere").symlink_to("y" * 255)
    (folder / "long").symlink_to("./" * 2000 + "file")
    (folder / "round").symlink_to("round")
    expect((folder / "relative").read_text() == (folder / "long").read_text() == "x", "one leads elsewhere")
    expect((folder / "long").lstat().st_size == 4004, "one is as long as it was not made")
    _refused(errno.ENOENT, (folder / "nowhere").read_text)
    _refused(errno.ELOOP, (folder / "round").read_text)


@case("listing-grows", f"{_POSIX}, readdir(): entries that stay are returned once")
def listing_grows(stage: Stage) -> None:
    """5000 entries are listed, each once, also while others are removed."""
    folder = stage.folder()
    for number in range(5000):
        (folder / f"{number}").touch()
    seen = []
    with os.scandir(folder) as entries:
        for entry in entries:
            seen.append(entry.name)
            if int(entry.name) % 2:
                (folder / entry.name).unlink()
    expect(len(seen) == len(set(seen)), "some are listed twice")
    stayed = {str(number) for number in range(0, 5000, 2)}
    expect(stayed <= set(seen), f"{len(stayed - set(seen))} are not listed")
    expect({path.name for path in folder.iterdir()} == stayed, "others are left")


@case("owners-modes", f"{_POSIX}, chmod(), chown(), umask()")
def owners_modes(stage: Stage) -> None:
    """Owners and modes are what was set, with the bits for users, groups and the sticky one."""
    file = stage.folder() / "file"
    file.touch()
    for mode in (0o0, 0o644, 0o4755, 0o2755, 0o1777, 0o7777):
        file.chmod(mode)
        expect(file.stat().st_mode & 0o7777 == mode, f"{mode:o} is {file.stat().st_mode & 0o7777:o}")
    for owner, group in ((0, 0), (65534, 1), (2**31, 2**32 - 2)):
        os.chown(file, owner, group)
        expect((file.stat().st_uid, file.stat().st_gid) == (owner, group), "it is somebody else's")


@case("times", f"{_POSIX}, utimensat(), <sys/stat.h>")
def times(stage: Stage) -> None:
    """Times are kept to the nanosecond; writing sets that of the content, a change of mode that of the state."""
    file = stage.folder() / "file"
    file.touch()
    for moment in (0, 1, 1_700_000_000_123_456_789, 4_000_000_000_000_000_001):
        os.utime(file, ns=(moment, moment))
        expect(file.stat().st_mtime_ns == moment, f"{moment} is {file.stat().st_mtime_ns}")
    before = file.stat()
    file.chmod(0o600)
    expect(file.stat().st_ctime_ns >= before.st_ctime_ns, "its state was changed in the past")
    expect(file.stat().st_mtime_ns == before.st_mtime_ns, "its content was changed by a change of mode")
    file.write_text("x")
    expect(file.stat().st_mtime_ns != before.st_mtime_ns, "writing did not change its time")


@case("attributes", "xattr(7)")
def attributes(stage: Stage) -> None:
    """Extended attributes hold any bytes, are listed, replaced, and removed, and come along when a file is renamed."""
    folder = stage.folder()
    file = folder / "file"
    file.touch()
    os.setxattr(file, "user.a", bytes(range(256)))
    os.setxattr(file, "user.b", b"x" * 2000)
    os.setxattr(file, "trusted.c", b"")
    file.rename(folder / "other")
    file = folder / "other"
    expect(set(os.listxattr(file)) >= {"user.a", "user.b", "trusted.c"}, f"there are {os.listxattr(file)}")
    expect(os.getxattr(file, "user.a") == bytes(range(256)), "one is something else")
    os.setxattr(file, "user.b", b"y", os.XATTR_REPLACE)
    expect(os.getxattr(file, "user.b") == b"y", "one was not replaced")
    _refused(errno.EEXIST, lambda: os.setxattr(file, "user.a", b"", os.XATTR_CREATE))
    os.removexattr(file, "user.a")
    _refused(errno.ENODATA, lambda: os.getxattr(file, "user.a"))


@case("lock-flock", "flock(2)")
def lock_flock(stage: Stage) -> None:
    """Who holds a file by flock keeps other processes out, until the file is closed."""
    file = stage.folder() / "file"
    file.touch()
    for mine, asked, free in ((fcntl.LOCK_EX, "-x", 1), (fcntl.LOCK_SH, "-x", 1), (fcntl.LOCK_SH, "-s", 0)):
        with file.open("r+") as held:
            fcntl.flock(held, mine)
            found = command.run(["flock", "-n", asked, str(file), "true"], accept=(0, 1)).returncode
            expect(found == free, f"flock {asked} of another process ends with {found}")
    expect(command.run(["flock", "-n", "-x", str(file), "true"], accept=(0, 1)).returncode == 0, "it is held still")


@case("lock-fcntl", f"{_POSIX}, fcntl(): F_SETLK")
def lock_fcntl(stage: Stage) -> None:
    """Who holds a part of a file by fcntl keeps other processes out of that part alone, as databases rely on."""
    file = stage.folder() / "file"
    file.write_bytes(bytes(100))
    try_it = "import fcntl,sys; fcntl.lockf(open(sys.argv[1],'r+'),fcntl.LOCK_EX|fcntl.LOCK_NB,10,int(sys.argv[2]))"
    with file.open("r+") as held:
        fcntl.lockf(held, fcntl.LOCK_EX, 10, 20)
        for start, free in ((0, True), (10, True), (15, False), (20, False), (29, False), (30, True)):
            done = command.run(["python3", "-c", try_it, str(file), str(start)], accept=(0, 1))
            expect((done.returncode == 0) == free, f"bytes {start} to {start + 9} are {'not ' * free}free to others")


@case("special", f"{_POSIX}, mkfifo(), bind()")
def special(stage: Stage) -> None:
    """Named pipes and Unix sockets work there."""
    folder = stage.folder()
    os.mkfifo(folder / "pipe")
    reader = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(folder / "pipe", os.O_WRONLY)
    os.write(writer, b"through")
    expect(os.read(reader, 100) == b"through", "something else came through a pipe")
    os.close(reader)
    os.close(writer)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(folder / "s"))
        server.listen()
        client.connect(str(folder / "s"))
    expect((folder / "s").is_socket(), "it is no socket")


@case("programs", "docker run; Dockerfile VOLUME")
def programs(stage: Stage) -> None:
    """What is executable there is run."""
    script = stage.folder() / "script"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    found = command.run([str(script)]).stdout
    expect(found == "ran\n", f"it said {found!r}")
