"""Whether a file is open for writing, as the file itself tells."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

from tests.volume.conftest import Kernel, attached_below
from volplugin.kernel import loopctl
from volplugin.kernel.leases import is_written
from volplugin.resources import LoopDevice


def test_a_writer_is_noticed_and_a_reader_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert not is_written(path)
    path.touch()
    with path.open("rb"):
        assert not is_written(path)
        with path.open("r+b"):
            assert is_written(path)
    assert not is_written(path)


def test_writers_that_come_meanwhile_neither_wait_nor_end_us(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert signal.getsignal(signal.SIGURG) == signal.SIG_DFL
    asked = 0
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            os.close(os.open(path, os.O_WRONLY))

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(2000):
        asked += not is_written(path)
    stop.set()
    writer.join(timeout=5)
    assert not writer.is_alive()
    assert asked > 0


def test_the_devices_of_others_are_looked_at_once(kernel: Kernel) -> None:
    wants = [LoopDevice(kernel.volumes / name / "image.ext4") for name in ("v1", "v2")]
    for want in wants:
        want.path.parent.mkdir(parents=True)
        subprocess.run(["truncate", "-s", "8M", want.path], check=True)
    assert list(kernel.devices.owned()) == []
    looked: list[str] = []

    def notice(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is loopctl.in_use.__code__:
            looked.append(event)

    sys.setprofile(notice)
    try:
        for want in wants:
            assert kernel.devices.find(want.path) is None
            kernel.devices.ensure(want)
        for want in wants:
            assert kernel.devices.find(want.path) is not None
    finally:
        sys.setprofile(None)
    assert looked == []
    assert len(attached_below(kernel.volumes)) == 2
    for want in wants:
        kernel.devices.remove(want)
        assert kernel.devices.find(want.path) is None
    assert attached_below(kernel.volumes) == []
