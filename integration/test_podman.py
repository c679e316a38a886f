"""Podman uses pyvol as a volume plugin that containers.conf names; no engine runs."""

import json
from collections.abc import Iterator

import pytest

from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.podman import Podman

# What Podman waits for a plugin that does not answer.
TIMEOUT_S = 5.0


@pytest.fixture
def plain(lab: Lab) -> Iterator[Host]:
    """A host of the test's own on which pyvol runs, and no engine."""
    with lab.own_host() as host:
        host.plugins["pyvol"].start()
        yield host


def is_anything_mounted(host: Host) -> bool:
    return "/dev/loop" in host.run("cat", "/proc/mounts")


def test_podman_makes_uses_and_removes_a_volume(plain: Host) -> None:
    podman = Podman(plain)
    podman("volume", "create", "--driver", "pyvol", "-o", "size=64M", "-o", "label.owner=ann", "v1")
    [told] = json.loads(podman("volume", "inspect", "v1"))
    assert (told["Driver"], told["Status"]["size"], told["Status"]["label.owner"]) == ("pyvol", "64MiB", "ann")
    assert "from the image" in podman.once("cat /seed/greeting", "-v", "v1:/seed"), "an empty volume is filled"
    podman.idle("ann", "-v", "v1:/seed")
    podman("exec", "ann", "sh", "-c", "echo kept >/seed/file")
    assert podman.once("cat /seed/file", "-v", "v1:/seed") == "kept"
    assert 40_000 < int(podman("exec", "ann", "sh", "-c", "df -P -k /seed | tail -1").split()[1]) < 65_537
    said, _ = podman.failing("volume", "rm", "v1")
    assert "being used" in said, said
    assert is_anything_mounted(plain)
    podman("rm", "-f", "-t", "0", "ann")
    assert not is_anything_mounted(plain)
    assert podman.once("cat /seed/file", "-v", "v1:/seed") == "kept"
    podman("volume", "rm", "v1")
    assert podman("volume", "ls", "-q") == ""
    assert not list((plain.root / "pyvol/volumes").glob("v*"))


def test_an_error_is_shown_at_once_and_nothing_is_made(plain: Host) -> None:
    podman = Podman(plain)
    said, seconds = podman.failing("volume", "create", "--driver", "pyvol", "-o", "sise=64M", "v1")
    assert "cannot use -o sise: there is no such option; the nearest is size" in said
    assert seconds < TIMEOUT_S
    assert podman("volume", "ls", "-q") == ""
    podman("volume", "create", "--driver", "pyvol", "-o", "size=64M", "v1")
    # A mount that fails is a container that does not start.
    (plain.root / "pyvol/volumes/v1/image.ext4").unlink()
    started = ("run", "--rm", "--network=none", "--pull=never", "-v", "v1:/data", "localhost/lab:latest", "true")
    said, seconds = podman.failing(*started)
    assert "image.ext4" in said, said
    assert "No such file" in said, said
    assert seconds < TIMEOUT_S


def test_a_restarted_plugin_has_podmans_volumes(plain: Host) -> None:
    podman = Podman(plain)
    podman("volume", "create", "--driver", "pyvol", "-o", "size=64M", "v1")
    podman.idle("ann", "-v", "v1:/data")
    podman("exec", "ann", "sh", "-c", "echo kept >/data/file")
    plain.plugins["pyvol"].kill()
    assert podman("exec", "ann", "cat", "/data/file") == "kept"
    plain.plugins["pyvol"].start()
    podman("rm", "-f", "-t", "0", "ann")
    assert not is_anything_mounted(plain)
    podman("volume", "rm", "v1")
