"""Power cuts: what a writer was told is on the disk is there afterwards, whenever the power went.

A copy of the backing file at one instant, taken below a volume that is being written to, is what a power cut would
leave. Five a filesystem here, fifty by `make power-cuts`. The seed is printed; POWER_CUT_SEED repeats its choices, but
not the moments at which writer and kernel take their turns.
"""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serving import MORTAL
from tests.volume.conftest import Kernel
from volplugin.kernel.copies.copying import copy
from volplugin.options import MIN_SIZE_BYTES
from volplugin.resources import BackingFile, Filesystem, LoopDevice, Mount

CUTS = int(os.environ.get("POWER_CUTS", "5"))
# A few records a file, so that names, sizes and content are all at stake; between them, noise that nobody syncs.
WRITER = """
import os, sys
place, number = sys.argv[1], 0
while True:
    with open(f"{place}/records-{number // 20 % 200}", "wb" if number % 20 == 0 else "ab") as file:
        file.write(b"%08d" % number + bytes([number % 251]) * 92)
        file.flush()
        os.fsync(file.fileno())
    if number % 20 == 0:
        directory = os.open(place, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    with open(f"{place}/noise-{number % 7}", "wb") as noise:
        noise.write(os.urandom(3000))
    print(number, flush=True)
    number += 1
"""


class Writer:
    """A process that writes numbered records and says of each that it is on the disk."""

    def __init__(self, place: Path) -> None:
        argv = [*MORTAL, sys.executable, "-c", WRITER, str(place)]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.acknowledged = -1
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.acknowledged = int(line)

    def stop(self) -> None:
        self._process.kill()
        self._listener.join()
        self._process.communicate()


@pytest.fixture
def reflinking(mount_namespace: None, tmp_path: Path) -> Iterator[Kernel]:
    """The kernel modules, on a disk of which a file can be copied at one instant."""
    image, disk = tmp_path / "disk.xfs", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(8 << 30)
    subprocess.run(["mkfs.xfs", "-q", "-K", "-m", "reflink=1", image], check=True)
    disk.mkdir()
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    kernel = Kernel(disk)
    yield kernel
    kernel.table.close()


@contextmanager
def mounted(kernel: Kernel, path: Path, fs: str) -> Iterator[Path]:
    """Inside the block the volume in the file is mounted, as pyvol mounts it: checked, if it was not unmounted."""
    want = Mount(kernel.mount_root / path.parent.name, path, fs, "_data")
    kernel.devices.ensure(LoopDevice(path, 4096))
    kernel.mounts.ensure(want)
    try:
        yield want.target / want.tree
    finally:
        kernel.mounts.remove(want)
        kernel.devices.remove(LoopDevice(path))


@pytest.mark.timeout(120 + 15 * CUTS)
@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_what_was_acknowledged_is_there_after_a_power_cut(reflinking: Kernel, fs: str) -> None:
    seed = os.environ.get("POWER_CUT_SEED") or secrets.token_hex(4)
    print(f"POWER_CUT_SEED={seed} POWER_CUTS={CUTS}")
    chance = random.Random(f"{seed} {fs}")
    kernel, path = reflinking, reflinking.volumes / "v" / f"image.{fs}"
    kernel.files.ensure(BackingFile(path, max(MIN_SIZE_BYTES[fs], 128 << 20), may_create=True, fs=fs))
    kernel.filesystems.ensure(Filesystem(path, fs, "_data"))
    cuts: dict[Path, int] = {}
    with mounted(kernel, path, fs) as place:
        writer = Writer(place)
        try:
            for cut in range(CUTS):
                time.sleep(chance.uniform(0.05, 0.6))
                copied = kernel.volumes / f"cut-{cut + 1}" / path.name
                copied.parent.mkdir()
                cuts[copied] = writer.acknowledged
                copy(path, copied)
        finally:
            writer.stop()
    found = 0
    for copied, acknowledged in cuts.items():
        with mounted(kernel, copied, fs) as recovered:
            found += check(recovered, acknowledged, f"{copied.parent.name} of seed {seed}")
    print(f"{fs}: {CUTS} cuts, {writer.acknowledged + 1} records acknowledged, {found} found")
    assert found > CUTS, "the writer was too slow to prove anything"


def check(place: Path, acknowledged: int, when: str) -> int:
    """Every acknowledged record is there and whole, but for those that the writer has overwritten; return how many."""
    found = 0
    for number in range(max(0, acknowledged + 1 - 3000), acknowledged + 1):
        file = place / f"records-{number // 20 % 200}"
        content = file.read_bytes()
        record = content[number % 20 * 100 :][:100]
        assert record == b"%08d" % number + bytes([number % 251]) * 92, f"{when}: record {number} of {acknowledged}"
        found += 1
    return found
