"""How a container may take a volume: without the image's files, a part of it, to read only."""

import json
from collections.abc import Iterator

import pytest

from integration.lab import engine, image, plugin
from integration.lab.host import Host

NONE = ("--network", "none")
SIZES = [("ext4", "64M"), ("xfs", "320M"), ("btrfs", "128M")]


def create(host: Host, name: str, *options: str) -> None:
    argv = [part for option in options for part in ("-o", option)]
    host.docker("volume", "create", "-d", host.drivers.volume, *argv, name)


def mounts(host: Host, name: str) -> dict[str, int]:
    """Who has the volume, as its driver tells the engine."""
    found: dict[str, int] = json.loads(host.docker("volume", "inspect", name))[0]["Status"]["mounts"]
    return found


def test_without_the_images_files(host: Host) -> None:
    create(host, "v1", "size=32M")
    assert host.once("ls -A /seed", *NONE, "-v", "v1:/seed:nocopy") == ""
    spelled = "type=volume,src=v1,dst=/seed,volume-nocopy"
    assert host.once("ls -A /seed; echo mine >/seed/file", *NONE, "--mount", spelled) == ""
    # It is not empty any more, so the image's files stay out of it from now on.
    assert host.once("ls -A /seed", *NONE, "-v", "v1:/seed") == "file"


def sub(path: str, name: str = "v1") -> tuple[str, ...]:
    return (*NONE, "--mount", f"type=volume,src={name},dst=/part,volume-nocopy,volume-subpath={path}")


@pytest.fixture
def newer(host: Host) -> Iterator[Host]:
    """The host, with a CLI that knows the word volume-subpath."""
    was, host.cli = host.cli, engine.newest_cli()
    yield host
    host.cli = was


@pytest.mark.parametrize(("fs", "size"), [pytest.param(*SIZES[0], marks=pytest.mark.everywhere), *SIZES[1:]])
def test_a_part_of_a_volume(newer: Host, fs: str, size: str) -> None:
    host = newer
    create(host, "v1", f"fs={fs}", f"size={size}")
    host.once("mkdir -p /data/a/b && echo inner >/data/a/b/file && echo outer >/data/file", *NONE, "-v", "v1:/data")
    host.idle("ann", *sub("a/b"))
    host.idle("bob", *NONE, "-v", "v1:/data")
    assert host.sh("ann", "ls -A /part; cat /part/file; echo more >/part/more") == "file\ninner"
    assert host.sh("bob", "cat /data/a/b/more") == "more"
    assert sorted(mounts(host, "v1").values()) == [1, 1]
    host.docker("rm", "-f", "bob")
    assert list(mounts(host, "v1").values()) == [1]
    assert "in use" in host.docker_error("volume", "rm", "v1")
    host.docker("restart", "-t", "0", "ann")
    assert host.sh("ann", "cat /part/more") == "more"
    host.docker("rm", "-f", "ann")
    assert mounts(host, "v1") == {}
    assert "/dev/loop" not in host.run("cat", "/proc/mounts")


def test_a_part_that_is_not_there_or_leads_out_of_the_volume(newer: Host) -> None:
    host = newer
    create(host, "v1", "size=32M")
    host.once("ln -s /etc /data/out; ln -s ../.. /data/up", *NONE, "-v", "v1:/data")
    for path in ("missing", "out", "up", "up/etc"):
        assert path.partition("/")[0] in host.docker_error("run", "--rm", *sub(path), image.NAME, "ls", "/part")
        host.docker("container", "prune", "-f")
        assert mounts(host, "v1") == {}, path
    assert host.once("ls /data", *NONE, "-v", "v1:/data") == "out\nup"


@pytest.mark.parametrize(("fs", "size"), SIZES)
def test_a_volume_that_is_read_only_for_everybody(host: Host, fs: str, size: str) -> None:
    create(host, "v1", f"fs={fs}", f"size={size}", "ro=true")
    assert "Read-only" in host.once("touch /data/file 2>&1; true", *NONE, "-v", "v1:/data")
    # To have the image's files copied into it is refused; without them it is as good as any.
    assert "read-only" in host.docker_error("run", "--rm", *NONE, "-v", "v1:/seed", image.NAME, "true").lower()
    host.docker("container", "prune", "-f")
    assert host.once("ls -A /seed", *NONE, "-v", "v1:/seed:nocopy") == ""


@pytest.mark.parametrize(("fs", "size"), SIZES)
def test_a_volume_that_has_become_read_only(host: Host, fs: str, size: str) -> None:
    create(host, "v1", f"fs={fs}", f"size={size}")
    host.once("echo kept >/data/file", *NONE, "-v", "v1:/data")
    host.run(plugin.script("pyvol"), "set", "v1", "ro=true", "--state-dir", str(host.root / "pyvol"))
    host.idle("ann", *NONE, "-v", "v1:/data")
    assert "Read-only" in host.sh("ann", "touch /data/other 2>&1; true")
    assert "ro" in host.sh("ann", "grep ' /data ' /proc/mounts").split()[3].split(",")
    assert host.sh("ann", "cat /data/file") == "kept"
