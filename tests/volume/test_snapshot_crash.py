"""Death at every step of a snapshot, of the way back, of a clone, of a trim: on the fake kernel and the real store."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pluginkit.errors import Conflict, Exhausted, NotFound
from tests.volume.machine import Machine
from volplugin.admin.wire import SnapshotRequest, SnapshotsRequest, TrimRequest

Verb = Callable[[Machine], None]
REQUEST = SnapshotRequest("v@s")


def snapshot(machine: Machine) -> None:
    machine.admin.create_snapshot(REQUEST)


def remove_snapshot(machine: Machine) -> None:
    machine.admin.remove_snapshot(REQUEST)


def restore(machine: Machine) -> None:
    machine.admin.restore(REQUEST)


def clone(machine: Machine) -> None:
    machine.create("w", **{"from": "v@s"})


def clone_now(machine: Machine) -> None:
    machine.create("w", **{"from": "v"})


def mount(machine: Machine) -> None:
    machine.mount("v", "c1")


def trim(machine: Machine) -> None:
    machine.admin.trim(TrimRequest("v"))


def names(machine: Machine) -> list[str]:
    return [found.Snapshot for found in machine.admin.list_snapshots(SnapshotsRequest()).Snapshots]


@pytest.mark.parametrize("reflinks", [True, False])
@pytest.mark.parametrize(
    ("before", "verb"),
    [
        ((), snapshot),
        ((mount,), snapshot),
        ((snapshot,), remove_snapshot),
        ((mount, snapshot), remove_snapshot),
        ((snapshot,), restore),
        ((snapshot,), clone),
        ((snapshot,), clone_now),
        ((snapshot, mount), clone_now),
        ((snapshot,), trim),
        ((snapshot, mount), trim),
    ],
)
def test_death_at_every_step(machine: Machine, before: tuple[Verb, ...], verb: Verb, reflinks: bool) -> None:
    machine.reflinks = reflinks
    for _ in machine.deaths(verb, create, *before, least=4):
        assert "v" in machine.names()
        assert machine.is_mounted("v") == (mount in before)
        if verb not in (snapshot, remove_snapshot):
            assert names(machine) == ["v@s"], "what somebody was told of is lost"
        clear(machine)


def create(machine: Machine) -> None:
    machine.create("v", size="64M")


def clear(machine: Machine) -> None:
    machine.steps.disarm()
    machine.kill_engine()
    machine.remove("w")
    if names(machine):
        with pytest.raises(Conflict, match="first: pyvol snapshot rm v@s"):
            machine.remove("v")
        remove_snapshot(machine)
    machine.remove("v")
    assert machine.kernel.objects == {}


def test_a_restored_volume_is_not_restored_again(machine: Machine) -> None:
    machine.create("v", size="64M")
    snapshot(machine)
    restore(machine)
    remove_snapshot(machine)
    machine.restart()
    machine.is_settled()
    assert machine.mount("v", "c1")


def test_refusals_leave_everything(machine: Machine) -> None:
    machine.create("v", size="64M")
    snapshot(machine)
    machine.mount("v", "c1")
    for verb, error in ((snapshot, Conflict), (restore, Conflict)):
        with pytest.raises(error):
            verb(machine)
    machine.allocated_bytes = 32 << 20
    machine.disk_bytes = 33 << 20
    with pytest.raises(Exhausted, match="cannot give v"):
        machine.admin.create_snapshot(SnapshotRequest("v@t"))
    with pytest.raises(NotFound):
        machine.admin.create_snapshot(SnapshotRequest("w@t"))
    machine.is_settled()
    assert names(machine) == ["v@s"]


def test_snapshots_survive_a_reboot(machine: Machine) -> None:
    machine.create("v", size="64M")
    snapshot(machine)
    machine.reboot()
    machine.is_settled()
    assert names(machine) == ["v@s"]
