"""Volumes in a pool, under an engine: copies of them take no time, and nobody notices that they lie in a file."""

import json
from collections.abc import Iterator

import pytest

from integration.lab import image
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.pyvol import pyvol

NONE = ("--network", "none")
MEBIBYTE = 1024 * 1024


def create(host: Host, name: str, *options: str) -> None:
    argv = [part for option in options for part in ("-o", option)]
    host.docker("volume", "create", "-d", host.drivers.volume, *argv, name)


def used(host: Host) -> int:
    """The bytes that are taken in the only pool."""
    [found] = json.loads(pyvol(host, "pool", "ls", "--json"))
    return int(found["Status"]["used_bytes"])


@pytest.fixture
def pool(host: Host) -> Iterator[str]:
    """A pool, which is gone afterwards with all that is in it."""
    pyvol(host, "pool", "create", "fast", "400M")
    yield "fast"
    if containers := host.docker("ps", "-aq").split():
        host.docker("rm", "-f", "-v", *containers)
    for line in pyvol(host, "snapshot", "ls").splitlines()[1:]:
        pyvol(host, "snapshot", "rm", line.split()[0])
    if volumes := host.docker("volume", "ls", "-q").split():
        host.docker("volume", "rm", *volumes)
    pyvol(host, "pool", "rm", "fast")


@pytest.mark.everywhere
def test_a_copy_in_a_pool_takes_no_room(host: Host, pool: str) -> None:
    create(host, "v1", "size=64M", f"pool={pool}")
    host.idle("ann", *NONE, "-v", "v1:/data")
    host.sh("ann", "echo before >/data/file; dd if=/dev/urandom of=/data/big bs=1M count=40 2>/dev/null; sync")
    before = used(host)
    assert before > 40 * MEBIBYTE
    pyvol(host, "snapshot", "create", "v1@s")
    create(host, "v2", "from=v1@s")
    host.sh("ann", "echo after >/data/file")
    assert host.once("cat /data/file", *NONE, "-v", "v2:/data") == "before"
    assert used(host) < before + 20 * MEBIBYTE, "the copies share what they have in common"
    assert json.loads(host.docker("volume", "inspect", "v2"))[0]["Status"]["pool"] == pool
    assert host.sh("ann", "cat /data/file") == "after"


def test_a_pool_is_there_again_before_its_volumes(host: Host, pool: str) -> None:
    create(host, "v1", "size=64M", f"pool={pool}")
    script = "echo started >>/data/starts; exec sleep 1000000"
    options = ("--restart", "always", "--stop-timeout", "1", "-v", "v1:/data")
    host.docker("run", "-d", "--name", "ann", *NONE, *options, image.NAME, "sh", "-c", script)

    def is_back(starts: int) -> bool:
        assert host.sh("ann", "cat /data/starts").count("started") == starts
        return "/dev/loop" in host.sh("ann", "df /data")

    wait_for("ann has started", lambda: is_back(1))
    host.crash()
    host.ensure_running()
    wait_for("ann is back", lambda: is_back(2), timeout_s=60)
    host.run("sync", "-f", str(host.root))
    host.reboot()
    host.ensure_running()
    wait_for("ann is back after a power cut", lambda: is_back(3), timeout_s=60)
    assert host.once("cat /data/starts", *NONE, "-v", "v1:/data").count("started") == 3
    [found] = json.loads(pyvol(host, "pool", "ls", "--json"))
    assert found["Status"]["health"] == "ok"
