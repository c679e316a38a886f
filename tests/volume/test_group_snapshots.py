"""Snapshots of several volumes at one instant, and a schedule that the service keeps: on real loop devices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import MORTAL, until
from tests.volume.administrator import Administrator
from tests.volume.serving import Service
from tests.volume.test_archives import MEBIBYTE, files
from tests.volume.test_snapshots import disk, mount

# Writes a number to one file and, when it is on the disk, to the other one.
WRITER = """
import os, sys
files = [os.open(f"{place}/number", os.O_RDWR | os.O_CREAT) for place in sys.argv[1:]]
for number in range(1 << 40):
    for file in files:
        os.pwrite(file, f"{number:020}".encode(), 0)
        os.fsync(file)
"""

__all__ = ["disk"]


@pytest.fixture
def service(disk: Path) -> Service:
    return Service(disk, "--reconcile-every", "5", "--overcommit", "always")


def test_one_instant_for_all_of_them(service: Service, admin: Administrator) -> None:
    """Whatever is in the second one was in the first one before."""
    try:
        for name, fs in (("a", "ext4"), ("b", "xfs"), ("c", "btrfs")):
            service.call("Create", Name=name, Opts={"size": "320M", "fs": fs})
        places = [str(mount(service, name)) for name in "abc"]
        with subprocess.Popen([*MORTAL, sys.executable, "-c", WRITER, *places]) as writer:
            last = Path(places[-1]) / "number"
            until(lambda: last.exists() and int(last.read_text() or 0) > 10, "the writer")
            for number in range(3):
                said = admin.run("snapshot", "create", *(f"{name}@s{number}" for name in "abc"), "--within", "20")
                assert int(said.split()[-4]) < 20_000
                reached = int(last.read_text())
                until(lambda: int(last.read_text() or 0) > reached + 3, "it to go on")  # noqa: B023
            writer.kill()
        for number in range(3):
            for name in "abc":
                service.call("Create", Name=f"{name}{number}", Opts={"from": f"{name}@s{number}"})
            found = [int((mount(service, f"{name}{number}") / "number").read_text()) for name in "abc"]
            assert found == sorted(found, reverse=True)
            assert found[0] - found[-1] <= 1
    finally:
        service.kill()


def test_nobody_waits_longer_than_that(service: Service, admin: Administrator) -> None:
    """The bound is so short that it is over before the end: there is no snapshot then, and all go on."""
    try:
        for name in "ab":
            service.call("Create", Name=name, Opts={"size": "64M"})
            (mount(service, name) / "file").write_bytes(os.urandom(30 * MEBIBYTE))
        assert "cannot keep frozen" in admin.error("snapshot", "create", "a@s", "b@s", "--within", "0.0001")
        assert files(service) == ["a/image.ext4", "b/image.ext4"]
        for name in "ab":
            (mount(service, name) / "after").write_text("written")
        assert admin.run("snapshot", "ls").splitlines()[1:] == []
        assert "give each volume once" in admin.error("snapshot", "create", "a@s", "a@t")
    finally:
        service.kill()


def test_the_service_keeps_a_schedule(service: Service, admin: Administrator) -> None:
    try:
        service.call("Create", Name="v", Opts={"size": "16M"})
        assert "such as 4h:1d:2w" in admin.error("schedule", "set", "v", "often")
        admin.run("schedule", "set", "v", "4h:1d:2w")
        assert admin.run("schedule", "ls").split() == ["VOLUME", "SCHEDULE", "v", "4h:1d:2w"]
        assert json.loads(admin.run("schedule", "ls", "--json")) == {"v": "4h:1d:2w"}
        service.process.send_signal(signal.SIGHUP)
        until(lambda: "v@auto-" in admin.run("snapshot", "ls"), "the first one")
        service.kill()
        service.start()
        service.process.send_signal(signal.SIGHUP)
        assert admin.run("snapshot", "ls").count("v@auto-") == 1
        admin.run("schedule", "rm", "v")
        assert admin.run("schedule", "ls").split() == ["VOLUME", "SCHEDULE"]
    finally:
        service.kill()
