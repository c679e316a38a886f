"""What else a volume can be told with -o: its filesystem, how it is allocated and mounted, whose it is."""

import json

import pytest

from integration.lab.host import Host

NONE = ("--network", "none")


def create(host: Host, name: str, *options: str) -> None:
    argv = [part for option in options for part in ("-o", option)]
    host.docker("volume", "create", "-d", host.drivers.volume, *argv, name)


@pytest.mark.parametrize(("fs", "size", "least"), [("ext4", 64, 50), ("xfs", 320, 200), ("btrfs", 128, 40)])
def test_each_filesystem(host: Host, fs: str, size: int, least: int) -> None:
    create(host, "v1", f"fs={fs}", f"size={size}M")
    assert host.once("cat /seed/greeting", *NONE, "-v", "v1:/seed") == "from the image"
    host.idle("ann", *NONE, "-v", "v1:/data")
    line = host.sh("ann", "echo kept >/data/file; df -P -k /data | tail -1")
    assert int(line.split()[3]) / 1024 > least, line
    assert host.sh("ann", "grep ' /data ' /proc/mounts").split()[2] == fs
    host.docker("kill", "ann")
    assert host.once("cat /data/file /data/greeting", *NONE, "-v", "v1:/data") == "kept\nfrom the image"
    said = host.once("dd if=/dev/zero of=/data/big bs=1M count=400 2>&1 && exit 1; true", *NONE, "-v", "v1:/data")
    assert "No space left on device" in said


@pytest.mark.parametrize("fs", ["xfs", "btrfs"])
def test_a_size_that_is_too_small_for_the_filesystem_is_refused(host: Host, fs: str) -> None:
    said = host.docker_error("volume", "create", "-d", host.drivers.volume, "-o", f"fs={fs}", "-o", "size=64M", "v1")
    assert f"fs={fs} needs at least" in said
    assert host.docker("volume", "ls", "-q") == ""


@pytest.mark.parametrize(("fs", "size"), [("ext4", 64), ("btrfs", 128)])
def test_an_allocated_volume_takes_its_whole_size_and_gives_it_back(host: Host, fs: str, size: int) -> None:
    create(host, "v1", "sparse=false", f"fs={fs}", f"size={size}M")
    status = json.loads(host.docker("volume", "inspect", "v1"))[0]["Status"]
    assert status["sparse"] == "false"
    assert status["allocated_bytes"] >= size << 20
    host.once("dd if=/dev/urandom of=/data/big bs=1M count=20 2>/dev/null; rm /data/big", *NONE, "-v", "v1:/data")
    assert json.loads(host.docker("volume", "inspect", "v1"))[0]["Status"]["allocated_bytes"] >= size << 20


def test_a_root_directory_of_somebody(host: Host) -> None:
    create(host, "v1", "size=32M", "uid=70", "gid=71", "mode=1750", "mkfs_opts=-i 4096")
    assert host.once("stat -c %u:%g:%a /data", *NONE, "-v", "v1:/data") == "70:71:1750"


def test_mount_options(host: Host) -> None:
    create(host, "v1", "size=128M", "fs=btrfs", "mount_opts=noexec,noatime,compress=zstd")
    line = host.once("grep ' /data ' /proc/mounts", *NONE, "-v", "v1:/data")
    for word in ("noexec", "noatime", "nodev", "nosuid", "compress=zstd"):
        assert word in line
    said = host.once("cp /bin/busybox /data/true && /data/true 2>&1; true", *NONE, "-v", "v1:/data")
    assert "ermission denied" in said


@pytest.mark.parametrize(
    "option",
    ["mkfs_opts=-F", "mkfs_opts=-d /etc", "mount_opts=suid", "mount_opts=compress=zstd", "uid=root", "mode=999"],
)
def test_what_is_not_on_the_list_is_refused(host: Host, option: str) -> None:
    said = host.docker_error("volume", "create", "-d", host.drivers.volume, "-o", option, "v1")
    assert f"cannot use -o {option.split('=')[0]}" in said
    assert host.docker("volume", "ls", "-q") == ""
