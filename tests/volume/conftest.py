"""A machine in memory for tests of the driver, a mount namespace for tests of the kernel modules."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serving import until
from tests.volume.administrator import Administrator
from tests.volume.machine import Machine
from tests.volume.serving import Service
from volplugin.kernel.backing import BackingFiles
from volplugin.kernel.encryption.keys import Keys
from volplugin.kernel.filesystem import Filesystems
from volplugin.kernel.loopdev import LoopDevices
from volplugin.kernel.mountinfo import Table
from volplugin.kernel.mounts import Mounts, claim_root
from volplugin.kernel.sources import SourceDirectories
from volplugin.kernel.usage import Usage
from volplugin.resources import POOL_MOUNTS

CLONE_FS = 0x200
CLONE_NEWNS = 0x20000
MS_PRIVATE_RECURSIVE = 0x40000 | 0x4000
LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def machine() -> Iterator[Machine]:
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as directory:
        machine = Machine(Path(directory))
        yield machine
        machine.store.close()


def attached_below(directory: Path) -> list[str]:
    """Return the loop devices on files below `directory`."""
    devices = subprocess.run(["losetup", "--json", "--list"], capture_output=True, text=True, check=True).stdout
    found = json.loads(devices)["loopdevices"] if devices else []
    # One that is being detached has no file any more.
    return [device["name"] for device in found if (device["back-file"] or "").startswith(f"{directory}/")]


def mounted_below(directory: Path) -> list[str]:
    """Return the mount points below `directory`."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split(" ")[4] for line in lines if line.split(" ")[4].startswith(f"{directory}/")]


@pytest.fixture
def mount_namespace(tmp_path: Path) -> Iterator[None]:
    """The test is in a mount namespace of its own, in which nothing is shared. Nothing of it is left at the end."""
    with mounts_apart(tmp_path):
        yield


@contextmanager
def mounts_apart(directory: Path) -> Iterator[None]:
    """Inside the block there is a mount namespace of its own; at its end no loop device is on a file of `directory`."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    try:
        if LIBC.unshare(CLONE_NEWNS) or LIBC.mount(b"none", b"/", None, MS_PRIVATE_RECURSIVE, None):
            raise OSError(ctypes.get_errno(), "unshare")
        yield
    finally:
        # A thread of the test that is just ending still shares our root and working directory; setns wants them alone.
        if LIBC.unshare(CLONE_FS) or LIBC.setns(home, CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(home)
        for device in attached_below(directory):
            # It may be detaching itself just now, for the namespace's end unmounts what the test left.
            subprocess.run(["losetup", "--detach", device], stderr=subprocess.DEVNULL, check=False)
        until(lambda: attached_below(directory) == [], "the loop devices to be released")


class Kernel:
    """The real kernel modules, on directories of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.volumes = directory / "volumes"
        self.mount_root = directory / "mnt"
        self.allowed = directory / "allowed"
        self.allowed.mkdir()
        claim_root(self.mount_root)
        self.devices = LoopDevices(self.volumes)
        self.files = BackingFiles(self.volumes, self.devices)
        self.keys = Keys((directory / "keys",))
        self.filesystems = Filesystems(self.devices, self.keys)
        self.sources = SourceDirectories((self.allowed,))
        self.table = Table()
        pools = self.volumes / POOL_MOUNTS
        self.mounts = Mounts(self.mount_root, pools, self.devices, self.sources, self.keys, self.table)
        self.usage = Usage(self.devices, self.keys)


@pytest.fixture
def kernel(mount_namespace: None, tmp_path: Path) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.table.close()


@pytest.fixture
def service(mount_namespace: None, tmp_path: Path) -> Iterator[Service]:
    """A plugin that runs, and reconciles when it starts only."""
    service = Service(tmp_path, "--reconcile-every", "3600")
    yield service
    service.kill()


@pytest.fixture
def admin(service: Service) -> Administrator:
    """Whoever types commands for that plugin."""
    return Administrator(service)
