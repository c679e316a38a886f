"""The real machine under the lab: what must be on it afterwards as it was before."""

import fnmatch
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, fields
from pathlib import Path

from integration.lab.namespace import MARK

CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Machine:
    """What can be left behind outside all namespaces."""

    links: frozenset[str]
    namespaces: frozenset[str]
    mounts: frozenset[str]
    loops: frozenset[str]
    cgroups: frozenset[str]
    processes: frozenset[str]


def look(root: Path) -> Machine:
    """The machine as it is; loop devices and processes only count when they belong to a lab below `root`."""
    mounted = Path("/proc/self/mountinfo").read_text().splitlines()
    return Machine(
        links=frozenset(entry.name for entry in Path("/sys/class/net").iterdir()),
        namespaces=frozenset(_output("ip", "netns").split()),
        mounts=frozenset(line.split()[4] for line in mounted),
        loops=frozenset(loops_below(root)),
        cgroups=frozenset(str(path) for path in CGROUPS.glob(f"*/{root.name}-*")),
        processes=frozenset(f"{pid} {name}" for pid, name in processes_of(root)),
    )


def left_behind(before: Machine, root: Path, timeout_s: float = 5.0) -> list[str]:
    """What is there that was not there before, once `timeout_s` have given it the time to go."""
    deadline = time.monotonic() + timeout_s
    while True:
        now = look(root)
        left = [
            f"{kind}: {item}"
            for kind in (field.name for field in fields(Machine))
            for item in sorted(getattr(now, kind) - getattr(before, kind))
        ]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.2)


def loops_below(folder: Path) -> list[str]:
    """The loop devices whose backing file lies (or lay) below the folder, whatever a mount makes of its name."""
    listed = _output("losetup", "--json", "--list", "--output", "NAME,BACK-FILE,BACK-INO,BACK-MAJ:MIN")
    devices = json.loads(listed)["loopdevices"] if listed.strip() else []
    inodes = {
        (os.major(status.st_dev), os.minor(status.st_dev), status.st_ino)
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
        for status in (path.stat(),)
    }
    return [
        device["name"]
        for device in devices
        if device["back-file"].startswith(f"{folder}/")
        or (*map(int, device["back-maj:min"].strip().split(":")), int(device["back-ino"])) in inodes
    ]


def processes_of(root: Path) -> list[tuple[int, str]]:
    """Process id and name of everything that was started in a lab below `root`."""
    wanted = f"{MARK}={root}/".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (entry / "environ").read_bytes():
                found.append((int(entry.name), (entry / "comm").read_text().strip()))
        except OSError:
            continue  # it ended while we looked
    return found


def detach_loops(folder: Path) -> None:
    """No loop device is left on a file below the folder; nothing may be mounted from them any more."""
    for device in loops_below(folder):
        subprocess.run(["losetup", "--detach", device], check=False, timeout=10)


def remove_cgroups(name: str) -> None:
    """The named cgroups and those below them are gone from every hierarchy; no process may be in them any more."""
    # Others' cgroups come and go meanwhile, which a walk passes over.
    for parent, folders, _ in os.walk(CGROUPS):
        for found in fnmatch.filter(folders, name.removeprefix("/")):
            for path, _, _ in os.walk(Path(parent, found), topdown=False):
                Path(path).rmdir()


def pss(pid: int) -> int:
    """The bytes of memory that a process has, what it shares divided among those that share it.

    Raises: OSError: there is no such process any more.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])


def remove_folder(folder: Path) -> None:
    """The folder is gone."""
    shutil.rmtree(folder, ignore_errors=True)


def _output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10).stdout
