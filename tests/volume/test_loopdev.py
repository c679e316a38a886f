"""Loop devices: one a file, found again by the file, gone when they shall be."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from pluginkit.errors import KernelError
from tests.volume.conftest import Kernel, attached_below
from volplugin.kernel import loopctl
from volplugin.kernel.loopdev import LoopDevices
from volplugin.resources import LoopDevice


@pytest.fixture
def want(kernel: Kernel) -> LoopDevice:
    return LoopDevice(blank(kernel, "v"))


def blank(kernel: Kernel, name: str) -> Path:
    path = kernel.volumes / name / "image.ext4"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(8 << 20)
    return path


def test_twice_is_once(kernel: Kernel, want: LoopDevice) -> None:
    kernel.devices.ensure(want)
    kernel.devices.ensure(want)
    [device] = attached_below(kernel.volumes)
    assert device == f"/dev/loop{kernel.devices.find(want.path)}"
    assert [have.path for have in kernel.devices.owned()] == [want.path]


def test_removal_leaves_nothing_and_may_be_repeated(kernel: Kernel, want: LoopDevice) -> None:
    kernel.devices.ensure(want)
    for _ in range(2):
        kernel.devices.remove(want)
        assert attached_below(kernel.volumes) == []
        assert kernel.devices.find(want.path) is None


def test_a_device_of_an_earlier_process_is_found(kernel: Kernel, want: LoopDevice) -> None:
    kernel.devices.ensure(want)
    other = LoopDevices(kernel.volumes)
    assert other.find(want.path) == kernel.devices.find(want.path)
    other.ensure(want)
    assert len(attached_below(kernel.volumes)) == 1


def test_a_device_is_found_under_the_files_new_name(kernel: Kernel, want: LoopDevice) -> None:
    kernel.devices.ensure(want)
    moved = want.path.with_name("moved")
    want.path.rename(moved)
    assert LoopDevices(kernel.volumes).find(moved) is not None
    assert LoopDevices(kernel.volumes).find(want.path) is None
    kernel.devices.remove(LoopDevice(moved))
    assert attached_below(kernel.volumes) == []


def test_a_file_that_took_anothers_place_gets_its_own_device(kernel: Kernel, want: LoopDevice) -> None:
    kernel.devices.ensure(want)
    old = kernel.devices.find(want.path)
    want.path.unlink()
    want.path.write_bytes(bytes(8 << 20))
    assert kernel.devices.find(want.path) is None
    kernel.devices.ensure(want)
    assert kernel.devices.find(want.path) not in {None, old}
    kernel.devices.remove(want)
    assert attached_below(kernel.volumes) == [], "the device on the deleted file must go as well"


def test_a_device_on_a_deleted_file_is_ours_and_can_be_removed(kernel: Kernel, want: LoopDevice) -> None:
    kernel.devices.ensure(want)
    want.path.unlink()
    [left] = kernel.devices.owned()
    assert left.key == want.key
    kernel.devices.remove(left)
    assert attached_below(kernel.volumes) == []


def test_a_device_that_others_detached_is_attached_again(kernel: Kernel, want: LoopDevice) -> None:
    kernel.devices.ensure(want)
    subprocess.run(["losetup", "--detach", f"/dev/loop{kernel.devices.find(want.path)}"], check=True)
    assert kernel.devices.find(want.path) is None
    kernel.devices.ensure(want)
    assert len(attached_below(kernel.volumes)) == 1
    kernel.devices.remove(want)


def test_devices_of_others_are_not_ours(kernel: Kernel, tmp_path: Path) -> None:
    foreign = tmp_path / "volumes-of-others"
    foreign.write_bytes(bytes(1 << 20))
    subprocess.run(["losetup", "--find", foreign], check=True)
    try:
        assert list(kernel.devices.owned()) == []
    finally:
        subprocess.run(["losetup", "--detach", *attached_below(tmp_path)], check=True)


def test_a_file_that_is_not_there_has_no_device(kernel: Kernel) -> None:
    missing = LoopDevice(kernel.volumes / "v" / "image.ext4")
    with pytest.raises(KernelError, match="No such file"):
        kernel.devices.ensure(missing)
    kernel.devices.remove(missing)


def test_a_device_goes_with_its_last_close(kernel: Kernel, want: LoopDevice) -> None:
    kernel.devices.ensure(want)
    number = kernel.devices.find(want.path)
    assert number is not None
    with loopctl.until_last_close(number):
        assert kernel.devices.find(want.path) == number
    assert kernel.devices.wait_released(want.path)


def test_more_devices_than_there_are_nodes_for_by_many_at_once(kernel: Kernel) -> None:
    wants = [LoopDevice(blank(kernel, f"v{number}")) for number in range(24)]
    threads = [threading.Thread(target=kernel.devices.ensure, args=(want,)) for want in wants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({kernel.devices.find(want.path) for want in wants} - {None}) == 24
    assert len(attached_below(kernel.volumes)) == 24
    for want in wants:
        kernel.devices.remove(want)
    assert attached_below(kernel.volumes) == []
