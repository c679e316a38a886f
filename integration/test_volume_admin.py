"""The administrator's commands of pyvol, beside containers that use the volumes."""

import json

import pytest

from integration.lab import image, plugin
from integration.lab.host import Host
from integration.lab.pyvol import pyvol

NONE = ("--network", "none")


def create(host: Host, name: str, *options: str) -> None:
    argv = [part for option in options for part in ("-o", option)]
    host.docker("volume", "create", "-d", host.drivers.volume, *argv, name)


def test_ls_shows_what_docker_shows(host: Host) -> None:
    create(host, "v1", "size=64M")
    host.idle("ann", *NONE, "-v", "v1:/data")
    [line] = [line.split() for line in pyvol(host, "ls").splitlines()[1:]]
    assert line[:4] == ["v1", "loop", "ext4", "64.0MiB"]
    assert line[-2:] == ["1", "ok"]
    [told] = json.loads(host.docker("volume", "inspect", "v1"))
    [known] = json.loads(pyvol(host, "inspect", "v1", "--json"))
    assert told["Status"] == known["Status"]


@pytest.mark.parametrize(("fs", "size"), [("ext4", 64), ("xfs", 320), ("btrfs", 128)])
def test_a_volume_grows_under_its_container(host: Host, fs: str, size: int) -> None:
    create(host, "v1", f"fs={fs}", f"size={size}M")
    host.idle("ann", *NONE, "-v", "v1:/data")
    host.sh("ann", "echo kept >/data/file")
    if "next mount" in pyvol(host, "resize", "v1", f"{2 * size}M"):
        host.docker("restart", "--time", "1", "ann")
    total = int(host.sh("ann", "df -P -k /data | tail -1").split()[1]) / 1024
    assert total > 1.6 * size
    assert host.sh("ann", "cat /data/file") == "kept"


@pytest.mark.parametrize(("fs", "size"), [("ext4", 64), ("xfs", 320), ("btrfs", 128)])
def test_a_snapshot_under_a_container_that_writes(host: Host, fs: str, size: int) -> None:
    create(host, "v1", f"fs={fs}", f"size={size}M")
    host.idle("ann", *NONE, "-v", "v1:/data")
    host.sh("ann", "echo before >/data/file")
    pyvol(host, "snapshot", "create", "v1@s")
    try:
        host.sh("ann", "echo after >/data/file")
        create(host, "v2", "from=v1@s")
        assert host.once("cat /data/file", *NONE, "-v", "v2:/data") == "before"
        said = host.docker_error("volume", "create", "-d", host.drivers.volume, "-o", "from=v1@t", "v3")
        assert "cannot find the snapshot v1@t: the snapshots of v1 are: s" in said
        host.docker("rm", "-f", "ann")
        assert "it has snapshots; first: pyvol snapshot rm v1@s" in host.docker_error("volume", "rm", "v1")
        pyvol(host, "snapshot", "restore", "v1@s")
        assert host.once("cat /data/file", *NONE, "-v", "v1:/data") == "before"
    finally:
        pyvol(host, "snapshot", "rm", "v1@s")


@pytest.mark.everywhere
def test_prune_removes_what_nobody_has_and_nothing_else(host: Host) -> None:
    for name in ("v1", "v2", "v3", "v4", "v5"):
        create(host, name, "size=16M")
    host.docker("volume", "create", "elsewhere")
    host.docker("create", "--name", "ann", *NONE, "-v", "v2:/data", image.NAME, "true")
    pyvol(host, "protect", "v3")
    pyvol(host, "snapshot", "create", "v4@s")
    try:
        driver = ("--driver", host.drivers.volume)
        command = f"{plugin.script('pyvol')} prune --state-dir {host.root / 'pyvol'} --driver"
        other = host.run("sh", "-c", f"{command} pyvol:other 2>&1 && exit 1; true")
        assert f"add --driver {host.drivers.volume}" in other
        said = host.run("sh", "-c", f"echo no | {command} {host.drivers.volume} && exit 1; true")
        assert [line.split()[0] for line in said.splitlines()[1:3]] == ["v1", "v5"]
        assert len(host.docker("volume", "ls", "-q").split()) == 6, "nothing is removed without a yes"
        assert [each["Name"] for each in json.loads(pyvol(host, "prune", *driver, "--json"))] == ["v1", "v5"]
        assert len(host.docker("volume", "ls", "-q").split()) == 6, "nor without one as JSON"
        said = pyvol(host, "prune", *driver, "--yes")
        assert [line for line in said.splitlines() if line.startswith("removed ")] == ["removed v1", "removed v5"]
        assert host.docker("volume", "ls", "-q").split() == ["elsewhere", "v2", "v3", "v4"]
        assert "No volume is unused." in pyvol(host, "prune", *driver)
    finally:
        pyvol(host, "protect", "--off", "v3")
        pyvol(host, "snapshot", "rm", "v4@s")
