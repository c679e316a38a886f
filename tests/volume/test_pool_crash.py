"""Death at every step of what is done with pools: on the fake kernel and the real store."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from pluginkit.errors import Conflict, KernelError, NotFound
from tests.crash.fake_kernel import Death
from tests.volume.machine import LAYOUT, Machine
from volplugin.admin.wire import SnapshotRequest
from volplugin.pools.wire import PoolCreateRequest, PoolGrowRequest, PoolRemoveRequest
from volplugin.resources import BackingFile, Filesystem

Verb = Callable[[Machine], None]
DISK = LAYOUT.disk("fast")


def create_pool(machine: Machine) -> None:
    machine.pools.create(PoolCreateRequest("fast", "1G"))


def grow_pool(machine: Machine) -> None:
    machine.pools.grow(PoolGrowRequest("fast", "2G"))


def remove_pool(machine: Machine) -> None:
    machine.pools.remove(PoolRemoveRequest("fast"))


def give_up(machine: Machine) -> None:
    """The pool's file and all that was in it are gone, and the pool is given up."""
    machine.kernel.objects = {
        key: have
        for key, have in machine.kernel.objects.items()
        if key[0] in ("backing file", "filesystem") and not is_below(key[1], DISK) and ".pools" not in key[1]
    }
    machine.lost = True
    machine.pools.remove(PoolRemoveRequest("fast", Lost=True))


def create(machine: Machine) -> None:
    machine.create("v", size="64M", pool="fast")


def mount(machine: Machine) -> None:
    machine.mount("v", "c1")


def snapshot(machine: Machine) -> None:
    machine.admin.create_snapshot(SnapshotRequest("v@s"))


def remove_snapshot(machine: Machine) -> None:
    machine.admin.remove_snapshot(SnapshotRequest("v@s"))


def remove(machine: Machine) -> None:
    machine.remove("v")


def is_below(path: str, directory: Path) -> bool:
    return Path(path).is_relative_to(directory)


def names(machine: Machine) -> list[str]:
    return [pool.Name for pool in machine.pools.list().Pools]


@pytest.mark.parametrize(
    ("before", "verb"),
    [
        ((), create_pool),
        ((create_pool,), grow_pool),
        ((create_pool, create, mount), grow_pool),
        ((create_pool,), remove_pool),
        ((create_pool, grow_pool), remove_pool),
        ((create_pool,), create),
        ((create_pool, create), mount),
        ((create_pool, create), snapshot),
        ((create_pool, create, snapshot), remove_snapshot),
        ((create_pool, create), remove),
    ],
)
def test_death_at_every_step(machine: Machine, before: tuple[Verb, ...], verb: Verb) -> None:
    machine.reflinks = True
    for _ in machine.deaths(verb, *before, least=3):
        assert verb in (create_pool, remove_pool) or names(machine) == ["fast"]
        assert (verb in (create, remove)) or machine.names() == (["v"] if create in before else [])
        clear(machine)
    machine.is_settled()
    clear(machine)


def clear(machine: Machine) -> None:
    """There is no pool."""
    machine.steps.disarm()
    machine.kill_engine()
    if "v" in machine.names():
        if machine.driver.list().Volumes[0].Status.get("snapshots"):
            remove_snapshot(machine)
        machine.remove("v")
    if names(machine):
        remove_pool(machine)
    assert machine.kernel.objects == {}
    assert names(machine) == machine.names() == []


def test_death_at_every_step_of_giving_up(machine: Machine) -> None:
    for step in count(1):
        machine.lost = False
        for earlier in (create_pool, create, snapshot):
            earlier(machine)
        machine.steps.arm(step, fatal=True)
        try:
            give_up(machine)
        except Death:
            machine.restart()
            if names(machine):
                machine.pools.remove(PoolRemoveRequest("fast", Lost=True))
        else:
            break
        assert names(machine) == machine.names() == []
        assert machine.kernel.objects == {}
    machine.is_settled()
    assert step > 5


def test_a_reboot_mounts_the_pool_before_what_lies_in_it(machine: Machine) -> None:
    create_pool(machine)
    create(machine)
    mount(machine)
    machine.reboot()
    machine.is_settled()
    assert machine.is_there(DISK)
    assert not machine.is_mounted("v")
    mount(machine)


def test_what_is_in_use_is_not_given_up(machine: Machine) -> None:
    create_pool(machine)
    create(machine)
    with pytest.raises(Conflict, match="its file is where it should be"):
        machine.pools.remove(PoolRemoveRequest("fast", Lost=True))
    machine.mount("v", "c1")
    with pytest.raises(Conflict, match="cannot give up v: it is mounted; caller c1"):
        give_up(machine)
    machine.kernel.objects.clear()
    with pytest.raises(NotFound):
        machine.pools.remove(PoolRemoveRequest("slow", Lost=True))
    machine.lost = False
    with pytest.raises(KernelError):
        remove_pool(machine)
    assert names(machine) == ["fast"], "a pool that cannot be looked into is not removed"


def test_data_that_no_record_knows_is_not_taken_for_a_new_volume(machine: Machine) -> None:
    create_pool(machine)
    for path in (DISK / "v" / "image.ext4", LAYOUT.volumes / "w" / "image.ext4"):
        machine.kernel.ensure(BackingFile(path, 1 << 20, may_create=True))
        machine.kernel.ensure(Filesystem(path, "ext4", "_data"))
    before = dict(machine.kernel.objects)
    with pytest.raises(Conflict, match="that no record knows; look at it"):
        create(machine)
    with pytest.raises(Conflict, match="that no record knows; look at it"):
        machine.create("w", size="64M")
    with pytest.raises(Conflict, match="in it are data of v"):
        remove_pool(machine)
    assert machine.kernel.objects == before
    assert machine.names() == []
