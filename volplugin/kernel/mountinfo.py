"""What is mounted where, in this mount namespace and in all others.

Source: proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

_ESCAPE = re.compile(r"\\([0-7]{3})")
# What the kernel writes as an escape.
_UNSAFE = re.compile(rb"[ \t\n\\#]")
_LOOP = re.compile(r"/dev/loop(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Mounted:
    """One mount, of the directory `root` of a filesystem, visible at `point`.

    device: major:minor of what the filesystem is on, also where the kernel tells another number for itself.
    """

    device: str
    root: str
    point: str


@dataclass(frozen=True)
class Holder:
    """A mount namespace in which something is mounted, and the processes that are in it."""

    namespace: str
    pids: tuple[int, ...]
    mounted: Mounted

    def __str__(self) -> str:
        """Say it in words, with the names of a few of the processes."""
        shown = ", ".join(f"{pid} ({_command(pid)})" for pid in self.pids[:3])
        more = f" and {len(self.pids) - 3} more" if len(self.pids) > 3 else ""
        return f"mounted at {self.mounted.point} in the mount namespace {self.namespace} of process {shown}{more}"


class Table:
    """The mounts that this process sees, read again only when the kernel says that they have changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file = FileIO("/proc/self/mountinfo")
        self._changes = select.poll()
        self._changes.register(self._file, select.POLLPRI)
        self._topmost = self._read()

    def at(self, point: Path) -> Mounted | None:
        """Return what is visible at the mount point `point`, or None if nothing is mounted exactly there."""
        name = _UNSAFE.sub(lambda found: b"\\%03o" % found[0][0], os.fsencode(point))
        with self._lock:
            if self._changes.poll(0):
                self._topmost = self._read()
            line = self._topmost.get(name)
        return top(parse(line), point) if line is not None else None

    def close(self) -> None:
        """The mount namespace may end, which an open table keeps alive."""
        self._file.close()

    def _read(self) -> dict[bytes, bytes]:
        self._file.seek(0)
        return {line.split(b" ", 5)[4]: line for line in self._file.read().split(b"\n") if line}


def read(pid: int | str = "self") -> list[Mounted]:
    """Return the mounts that the process sees, a later one on top of an earlier one at the same point."""
    return parse(Path(f"/proc/{pid}/mountinfo").read_bytes())


def parse(content: bytes) -> list[Mounted]:
    """Return the mounts in the content of a mountinfo file.

    A container names its mount points as it likes: what Python takes for the end of a line may be in a name.
    """
    lines = content.decode("utf-8", errors="backslashreplace").split("\n")
    return [_parse_line(line.split(" ")) for line in lines if line]


def _parse_line(fields: Sequence[str]) -> Mounted:
    _, _, device, root, point, *more = fields
    fs, source = more[more.index("-") + 1 :][:2]
    # btrfs may be on many devices, so it has a number of its own. The source is the kernel's own word for the device.
    if fs == "btrfs" and (loop := _LOOP.fullmatch(source)):
        device = f"7:{loop[1]}"
    return Mounted(device, _unescaped(root), _unescaped(point))


def top(mounts: Sequence[Mounted], point: Path) -> Mounted | None:
    """Return what is visible at the mount point `point`, or None if nothing is mounted exactly there."""
    return next((mount for mount in reversed(mounts) if mount.point == str(point)), None)


def holders(device: str, root: str) -> Iterator[Holder]:
    """Yield where `root` of the filesystem on `device`, or something below it, is mounted, in every mount namespace."""
    below = root.rstrip("/") + "/"
    for namespace, pids in _namespaces().items():
        for mount in _read_any(pids):
            if mount.device == device and (mount.root == root or mount.root.startswith(below)):
                yield Holder(namespace, tuple(pids), mount)


def users(mounted: Mounted) -> Iterator[str]:
    """Yield, in words, the processes that use a mount of this mount namespace.

    Of a loop device also those in other namespaces: a shared mount is busy when a copy of it is, and there it may have
    another path. A directory has its device in common with much else: its users are known by its path alone.
    """
    if mounted.device.startswith("7:"):
        return users_of(Path(mounted.point).stat().st_dev)
    return _processes(lambda link: f"{link.readlink()}/".startswith(f"{mounted.point}/"))


def users_of(device: int) -> Iterator[str]:
    """Yield, in words, the processes that use a filesystem on the device (as in st_dev), in any mount namespace.

    They hold it even when it is not mounted in any namespace any more.
    """
    return _processes(lambda link: link.stat().st_dev == device)


def _processes(uses: Callable[[Path], bool]) -> Iterator[str]:
    """Yield, in words, the processes of whose links to open files, the root and the working directory one `uses` it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # It has ended, or it is a kernel thread.
                if any(uses(link) for link in (entry / "cwd", entry / "root", *(entry / "fd").iterdir())):
                    yield f"in use by process {entry.name} ({_command(int(entry.name))})"


def _namespaces() -> dict[str, list[int]]:
    """Return the processes of each mount namespace."""
    found: dict[str, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # It has ended, or it is a kernel thread.
                found.setdefault(str((entry / "ns/mnt").readlink()), []).append(int(entry.name))
    return found


def _read_any(pids: Sequence[int]) -> list[Mounted]:
    """Return the mounts that the first of `pids` that still lives sees; they share a namespace."""
    for pid in pids:
        with suppress(OSError):
            return read(pid)
    return []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "ended"


def _unescaped(field: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), field)
