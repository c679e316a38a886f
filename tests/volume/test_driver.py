"""The verbs, on the fake kernel and the real store."""

from __future__ import annotations

import sqlite3
import threading
from itertools import count

import pytest

from pluginkit import wire
from pluginkit.errors import BadRequest, Conflict, Exhausted, KernelError, NotFound, PluginError, Unavailable
from pluginkit.reconcile import Outcome
from tests.volume.machine import LAYOUT, Machine
from volplugin.admin.wire import DiskAnswer
from volplugin.volumes import VOLUME
from volplugin.wire import CreateRequest, VolumeRequest


def test_the_life_of_a_volume(machine: Machine) -> None:
    machine.create("v", size="64M")
    assert machine.names() == ["v"]
    assert not machine.is_mounted("v")
    assert machine.mount("v", "c1") == "/state/mnt/v/_data"
    assert machine.is_mounted("v")
    machine.unmount("v", "c1")
    assert not machine.is_mounted("v")
    machine.remove("v")
    assert machine.names() == []
    assert machine.kernel.objects == {}


def test_a_bound_directory_is_mounted_under_the_volumes_name(machine: Machine) -> None:
    machine.create("b", backend="bind", source="/srv/b")
    assert machine.mount("b", "c1") == "/state/mnt/b"
    machine.is_settled()
    machine.unmount("b", "c1")
    machine.remove("b")
    assert machine.kernel.objects == {}


def test_creating_again_with_the_same_options_succeeds(machine: Machine) -> None:
    machine.create("v", size="64M")
    created = machine.driver.get(VolumeRequest("v")).Volume.CreatedAt
    for options in ({"size": "64M"}, {"size": "65536K", "backend": "loop"}, {}):
        machine.create("v", **options)
    assert machine.driver.get(VolumeRequest("v")).Volume.CreatedAt == created


def test_creating_again_with_other_options_says_which(machine: Machine) -> None:
    machine.create("v", size="64M")
    with pytest.raises(Conflict, match=r"size=64MiB, not 1GiB$"):
        machine.create("v", size="1G")
    with pytest.raises(
        Conflict, match="backend=loop, not bind, size=64MiB, not unset, fs=ext4, not unset, source=unset"
    ):
        machine.create("v", backend="bind", source="/srv")


def test_null_options_are_none(machine: Machine) -> None:
    machine.driver.create(wire.decode(b'{"Name":"v","Opts":null}', CreateRequest))
    assert machine.status("v")["size"] == "1GiB"


def test_options_that_cannot_be_leave_nothing(machine: Machine) -> None:
    with pytest.raises(BadRequest):
        machine.create("v", size="64M", source="/srv")
    assert machine.names() == []
    assert machine.store.rows(VOLUME) == []


def test_what_is_not_there(machine: Machine) -> None:
    for verb in (machine.driver.get, machine.driver.path):
        with pytest.raises(NotFound, match="cannot find the volume v"):
            verb(VolumeRequest("v"))
    with pytest.raises(NotFound):
        machine.mount("v", "c1")
    machine.unmount("v", "c1")
    machine.remove("v")


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc/passwd", ".trash", "a\0", "x" * 256])
def test_no_verb_takes_a_hostile_name(machine: Machine, name: str) -> None:
    driver = machine.driver
    for verb in (driver.get, driver.path, driver.remove):
        with pytest.raises(BadRequest):
            verb(VolumeRequest(name))
    for action in (lambda: machine.create(name), lambda: machine.mount(name, "c"), lambda: machine.unmount(name, "c")):
        with pytest.raises(BadRequest):
            action()
    assert machine.kernel.changes == 0


def test_get_says_what_is_known(machine: Machine) -> None:
    machine.create("v", size="64M")
    machine.mount("v", "c1")
    machine.mount("v", "c1")
    answer = wire.encode(machine.driver.get(VolumeRequest("v"))).decode()
    assert '"Status":{"backend":"loop","size":"64MiB","fs":"ext4","mounts":{"c1":2},' in answer
    assert '"Mountpoint":"/state/mnt/v/_data"' in answer
    created = machine.driver.get(VolumeRequest("v")).Volume.CreatedAt
    assert f'"CreatedAt":"{created:%Y-%m-%dT%H:%M:%SZ}"' in answer


def test_the_driver_is_local(machine: Machine) -> None:
    assert wire.encode(machine.driver.capabilities()) == b'{"Capabilities":{"Scope":"local"},"Err":""}'


def test_an_ill_volume_is_found_and_listed_with_its_problem(machine: Machine) -> None:
    machine.create("v")
    machine.create("w")
    machine.kernel.objects.clear()
    assert "No such file" in machine.status("v")["problem"]
    assert machine.names() == ["v", "w"]
    assert len(machine.driver.reconcile().failures) == 2
    assert machine.names() == ["v", "w"]
    with pytest.raises(KernelError):
        machine.mount("v", "c1")


def test_lost_data_is_not_replaced_by_a_blank_filesystem(machine: Machine) -> None:
    machine.create("v")
    machine.kernel.objects.clear()
    machine.restart()
    assert machine.kernel.objects == {}
    machine.remove("v")
    machine.create("v")
    machine.is_settled()


def test_get_and_list_do_without_the_disk(machine: Machine) -> None:
    machine.create("v")
    machine.store.close()
    assert "Cannot operate on a closed database" in machine.status("v")["problem"]
    assert machine.names() == ["v"]
    with pytest.raises(PluginError):
        machine.create("w")


def test_a_failed_create_leaves_nothing(machine: Machine) -> None:
    for step in count(1):
        machine.steps.arm(step, fatal=False)
        try:
            machine.create("v")
        except (KernelError, Unavailable):
            machine.steps.disarm()
            machine.driver.reconcile()
            assert machine.names() == []
            assert machine.kernel.objects == {}
        else:
            # Either the step was one that cannot fail, or there are no more.
            if machine.steps.taken < step:
                break
            machine.remove("v")
    machine.is_settled()


def test_a_create_that_was_cut_short_does_not_bind_the_next_one_to_its_options(machine: Machine) -> None:
    with pytest.raises(Unavailable):
        cut_before_told(machine, "v", "64M")
    assert machine.names() == []
    machine.create("v", size="1G")
    assert machine.status("v")["size"] == "1GiB"
    machine.is_settled()


def test_a_create_that_was_cut_short_is_undone_by_a_reconcile(machine: Machine) -> None:
    with pytest.raises(Unavailable):
        cut_before_told(machine, "v", "64M")
    assert machine.driver.reconcile().failures == ()
    assert machine.kernel.objects == {}
    assert machine.store.rows(VOLUME) == []


def cut_before_told(machine: Machine, name: str, size: str) -> None:
    """The disk is full from the second of Create's two moves on."""
    machine.create("probe", size=size)
    machine.remove("probe")
    machine.steps.arm(1 << 30, fatal=False)
    machine.create("probe", size=size)
    whole = machine.steps.taken
    machine.steps.disarm()
    machine.remove("probe")
    # The second move writes twice around two resources: 3 steps a write, 2 a resource.
    machine.steps.arm(whole - 9, fatal=False, for_good=True)
    try:
        machine.create(name, size=size)
    finally:
        machine.steps.disarm()


def test_a_busy_volume_stays_mounted_and_can_be_mounted_again(machine: Machine) -> None:
    machine.create("v")
    machine.mount("v", "c1")
    machine.steps.arm(4, fatal=False)  # The intent is 3 steps, the next is the unmount.
    with pytest.raises(ExceptionGroup, match="cannot take down"):
        machine.unmount("v", "c1")
    machine.steps.disarm()
    assert machine.is_mounted("v")
    assert machine.status("v")["mounts"] == {}
    machine.mount("v", "c2")
    assert machine.status("v")["mounts"] == {"c2": 1}
    machine.unmount("v", "c2")
    machine.is_settled()


def test_a_busy_volume_is_unmounted_by_the_next_reconcile(machine: Machine) -> None:
    machine.create("v")
    machine.mount("v", "c1")
    machine.steps.arm(4, fatal=False)
    with pytest.raises(ExceptionGroup):
        machine.unmount("v", "c1")
    machine.steps.disarm()
    machine.driver.reconcile()
    assert not machine.is_mounted("v")
    machine.is_settled()


def test_a_removal_that_failed_goes_forward_and_forbids_to_mount(machine: Machine) -> None:
    machine.create("v")
    machine.steps.arm(4, fatal=False)
    with pytest.raises(ExceptionGroup):
        machine.remove("v")
    machine.steps.disarm()
    assert "removal has begun" in machine.status("v")["problem"]
    with pytest.raises(Conflict, match="its removal has begun"):
        machine.mount("v", "c1")
    machine.driver.reconcile()
    assert machine.names() == []
    assert machine.kernel.objects == {}


def test_what_others_unmounted_is_mounted_again(machine: Machine) -> None:
    machine.create("v")
    machine.mount("v", "c1")
    del machine.kernel.objects["mount", "/state/mnt/v"]
    del machine.kernel.objects["loop device", "/state/volumes/v/image.ext4"]
    machine.mount("v", "c2")
    assert machine.is_mounted("v")
    del machine.kernel.objects["mount", "/state/mnt/v"]
    assert machine.driver.reconcile().failures == ()
    machine.is_settled()


def test_data_without_a_record_is_left_alone(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.create("v")
    machine.create("w")
    with sqlite3.connect(machine._file) as connection:
        connection.execute("DELETE FROM record WHERE id = 'v'")
    connection.close()
    assert machine.volumes(LAYOUT.disk("")) == ["v", "w"]
    machine.driver.reconcile()
    assert "there is data of a volume v that no record knows" in caplog.text


def test_a_reconcile_with_nothing_to_do_does_nothing(machine: Machine) -> None:
    machine.create("v")
    machine.mount("v", "c1")
    machine.create("b", backend="bind", source="/srv")
    machine.kernel.changes = 0
    assert machine.driver.reconcile() == Outcome(undone=0, swept=0, failures=())
    assert machine.kernel.changes == 0


def test_volumes_survive_a_reboot_and_mounts_do_not(machine: Machine) -> None:
    machine.create("v")
    machine.mount("v", "c1")
    machine.reboot()
    assert machine.status("v")["mounts"] == {}
    assert not machine.is_mounted("v")
    machine.is_settled()


def test_many_callers_at_once(machine: Machine) -> None:
    def use(number: int) -> None:
        name = f"v{number % 4}"
        for _ in range(3):
            machine.create(name)
            machine.mount(name, f"c{number}")
            machine.unmount(name, f"c{number}")

    threads = [threading.Thread(target=use, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert machine.names() == ["v0", "v1", "v2", "v3"]
    machine.is_settled()
    assert not any(machine.is_mounted(name) for name in machine.names())


def test_the_records_are_in_the_file(machine: Machine) -> None:
    machine.create("v", size="64M")
    machine.restart()
    assert machine.status("v")["size"] == "64MiB"


def test_what_does_not_fit_on_the_disk_is_refused_and_leaves_nothing(machine: Machine) -> None:
    machine.disk_bytes = 3 << 30
    machine.create("v", size="2G")
    with pytest.raises(Exhausted, match=r"w 2GiB: the disk has 3\.0GiB available, .* grow by 2\.0GiB"):
        machine.create("w", size="2G")
    assert machine.names() == ["v"]
    assert machine.admin.inspect_disk() == DiskAnswer(3 << 30, 2 << 30, 0)
    machine.create("w", size="1G")
    machine.create("b", backend="bind", source="/srv")
    machine.remove("v")
    machine.create("x", size="2G")
    machine.is_settled()


def test_the_same_space_is_not_promised_twice(machine: Machine) -> None:
    machine.disk_bytes = 3 << 30
    made: list[str] = []

    def make(name: str) -> None:
        try:
            machine.create(name, size="1G")
            made.append(name)
        except Exhausted:
            pass

    threads = [threading.Thread(target=make, args=(f"v{number}",)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == machine.names()
    assert len(made) == 3
    machine.is_settled()
