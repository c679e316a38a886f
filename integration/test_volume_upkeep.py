"""What the administrator does beside containers, and what others do to the files below them."""

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from integration.lab import image, plugin
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.pyvol import pyvol

NONE = ("--network", "none")
SIZES = [("ext4", "64M"), ("xfs", "320M"), ("btrfs", "128M")]
MEBIBYTE = 1024 * 1024


def create(host: Host, name: str, *options: str) -> None:
    argv = [part for option in options for part in ("-o", option)]
    host.docker("volume", "create", "-d", host.drivers.volume, *argv, name)


def inspect(host: Host, name: str) -> dict[str, Any]:
    """What the volume's driver tells the engine of it."""
    found: dict[str, Any] = json.loads(host.docker("volume", "inspect", name))[0]["Status"]
    return found


def image_of(host: Host, name: str) -> Path:
    return host.root / "pyvol" / "volumes" / name / "image.ext4"


def sh(script: str) -> None:
    """The shell script has succeeded on the machine itself."""
    subprocess.run(["sh", "-c", script], check=True, timeout=60)


def checks(host: Host) -> list[Path]:
    """The processes of the host's pyvol that check an ext4."""
    found = []
    mine = Path(f"/proc/{host.plugins['pyvol'].pid}/ns/mnt").readlink()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "comm").read_text() == "e2fsck\n" and (entry / "ns/mnt").readlink() == mine:
                found.append(entry)
    return found


@pytest.fixture
def keeping(lab: Lab) -> Iterator[Host]:
    """A host whose pyvol keeps for an hour what was removed."""
    with lab.own_host() as host:
        host.plugins["pyvol"].env = {**(host.plugins["pyvol"].env or {}), "PYVOL_TRASH": "1h"}
        host.ensure_running()
        host.import_image()
        yield host


def test_what_was_removed_can_be_had_again(keeping: Host) -> None:
    host = keeping
    for fs, size in SIZES:
        create(host, fs, f"fs={fs}", f"size={size}")
        host.once(f"echo {fs} >/data/file", *NONE, "-v", f"{fs}:/data")
        host.docker("volume", "rm", fs)
    assert host.docker("volume", "ls", "-q") == ""
    assert len(pyvol(host, "trash", "ls").splitlines()) == 1 + len(SIZES)
    create(host, "ext4", "size=32M")
    for fs, _ in SIZES[1:]:
        assert pyvol(host, "undelete", fs) == f"{fs}\n"
    assert pyvol(host, "undelete", "ext4", "--as", "old") == "old\n"
    assert host.docker("volume", "ls", "-q").split() == ["btrfs", "ext4", "old", "xfs"]
    for name, holds in (("xfs", "xfs"), ("btrfs", "btrfs"), ("old", "ext4")):
        assert host.once("cat /data/file", *NONE, "-v", f"{name}:/data") == holds
        assert inspect(host, name)["health"] == "ok"
    assert host.once("ls -A /data", *NONE, "-v", "ext4:/data") == ""
    host.remove_all()
    pyvol(host, "trash", "empty", "--yes")


@pytest.mark.parametrize(("fs", "size"), SIZES)
def test_deleted_files_give_their_space_back(host: Host, fs: str, size: str) -> None:
    create(host, "v1", f"fs={fs}", f"size={size}")
    host.idle("ann", *NONE, "-v", "v1:/data")
    empty = inspect(host, "v1")["allocated_bytes"]
    host.sh("ann", "dd if=/dev/urandom of=/data/big bs=1M count=30 2>/dev/null; echo kept >/data/file; sync")
    assert inspect(host, "v1")["allocated_bytes"] >= empty + 25 * MEBIBYTE
    host.sh("ann", "rm /data/big; sync")
    pyvol(host, "trim", "v1")
    assert inspect(host, "v1")["allocated_bytes"] <= empty + 10 * MEBIBYTE
    assert host.sh("ann", "cat /data/file") == "kept"


def test_what_is_protected_stays(host: Host) -> None:
    create(host, "v1", "size=32M")
    host.once("echo kept >/data/file", *NONE, "-v", "v1:/data")
    pyvol(host, "protect", "v1")
    said = host.docker_error("volume", "rm", "v1")
    assert "cannot remove v1: it is protected; first: pyvol protect --off v1" in said
    assert "v1" in host.docker_error("volume", "rm", "-f", "v1")
    assert inspect(host, "v1")["protected"] is True
    assert host.once("cat /data/file", *NONE, "-v", "v1:/data") == "kept"
    pyvol(host, "protect", "--off", "v1")
    host.docker("volume", "rm", "v1")


def test_a_file_that_is_deleted_under_a_container(host: Host) -> None:
    create(host, "v1", "size=32M", "label.owner=ann")
    host.idle("ann", *NONE, "-v", "v1:/data")
    host.sh("ann", "echo first >/data/file; sync")
    image_of(host, "v1").unlink()
    assert "No such file" in inspect(host, "v1")["problem"]
    assert host.docker("volume", "ls", "-q") == "v1"
    said = host.docker_error("run", "--rm", *NONE, "-v", "v1:/data", image.NAME, "true")
    assert "the volume's data is not where it was" in said
    host.docker("container", "prune", "-f")
    assert host.sh("ann", "echo second >>/data/file; sync; cat /data/file") == "first\nsecond"
    # What the doctor says saves it.
    told = host.machine.try_run(plugin.script("pyvol"), "doctor", "--state-dir", str(host.root / "pyvol")).stdout
    [command] = re.findall(r"dd if=/dev/loop\d+ of=FILE conv=sparse bs=1M", told)
    saved = host.root / "saved"
    host.run("sh", "-c", command.replace("FILE", str(saved)))
    host.docker("stop", "-t", "0", "ann")
    saved.rename(image_of(host, "v1"))
    host.docker("start", "ann")
    assert host.sh("ann", "cat /data/file") == "first\nsecond"
    assert inspect(host, "v1")["health"] == "ok"


def test_a_file_that_is_replaced_under_a_container(host: Host) -> None:
    for name in ("v1", "v2"):
        create(host, name, "size=32M")
    host.idle("ann", *NONE, "-v", "v1:/data")
    host.sh("ann", "echo anns >/data/file; sync")
    away = image_of(host, "v1").rename(host.root / "away")
    shutil.copy(image_of(host, "v2"), image_of(host, "v1"))
    assert "deleted or replaced" in inspect(host, "v1")["problem"]
    said = host.docker_error("run", "--rm", *NONE, "-v", "v1:/data", image.NAME, "true")
    assert "its file was deleted or replaced while it is in use" in said
    host.docker("container", "prune", "-f")
    assert host.sh("ann", "echo more >>/data/file; sync; cat /data/file") == "anns\nmore"
    host.docker("stop", "-t", "0", "ann")
    away.rename(image_of(host, "v1"))
    host.docker("start", "ann")
    assert host.sh("ann", "cat /data/file") == "anns\nmore"


def test_two_come_while_the_filesystem_is_being_checked(host: Host) -> None:
    """The pool's disk stands still meanwhile, so that the check takes as long as it is to."""
    pyvol(host, "pool", "create", "p", "400M")
    try:
        create(host, "v1", "size=64M", "pool=p")
        create(host, "v2", "size=32M")
        for name in ("ann", "bob"):
            host.docker("create", "--name", name, *NONE, "-v", "v1:/data", image.NAME, "sleep", "1000000")
        host.docker("start", "ann")
        host.sh("ann", "echo kept >/data/file; sync")
        # From outside: a managed pyvol has no programs for this.
        disk = f"/proc/{host.plugins['pyvol'].pid}/root{host.volume_state}/volumes/.mounted/p"
        image_file = f"{disk}/_data/v1/image.ext4"
        # As after a power cut: what was there while it was mounted.
        sh(f"cp {image_file} {disk}/copy")
        host.docker("kill", "ann")
        wait_for("nobody has it", lambda: inspect(host, "v1")["mounts"] == {})
        sh(f"dd if={disk}/copy of={image_file} bs=1M conv=notrunc,fsync")
        sh(f"rm {disk}/copy")
        sh(f"fsfreeze -f {disk}")
        with ThreadPoolExecutor() as threads:
            try:
                starts = [threads.submit(host.docker, "start", name) for name in ("ann", "bob")]
                wait_for("a check that waits for its disk", lambda: checks(host), 30)
                assert inspect(host, "v1")["mounts"] == {}
                host.once("echo others >/data/file", *NONE, "-v", "v2:/data")
                assert checks(host)
                assert not any(start.done() for start in starts), "they wait for the check"
            finally:
                sh(f"fsfreeze -u {disk}")
            for start in starts:
                start.result()
        for name in ("ann", "bob"):
            assert host.sh(name, "cat /data/file") == "kept"
        assert list(inspect(host, "v1")["mounts"].values()) == [1, 1]
    finally:
        host.docker("rm", "-f", "ann", "bob")
        host.docker("volume", "rm", "v1")
        pyvol(host, "pool", "rm", "p")
