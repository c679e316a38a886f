"""Reconcile takes volumes in turns, and who uses another one does not wait: on the fake kernel and the real store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from pluginkit.reconcile import Outcome, Resource
from tests.crash.fake_kernel import Death
from tests.volume.machine import LAYOUT, Machine
from volplugin.admin.wire import SnapshotsRequest
from volplugin.instants.wire import GroupRequest
from volplugin.resources import BackingFile, Mount
from volplugin.volumes import SNAPSHOT

PATIENCE_S = 15.0
DONE = Outcome(undone=0, swept=0, failures=())


@contextmanager
def stuck(machine: Machine, name: str) -> Iterator[threading.Event]:
    """Inside the block the kernel is not done with the backing file of the volume; the event: it has begun."""
    begun, ended = threading.Event(), threading.Event()
    ensure = machine.kernel.ensure

    def slow(want: Resource) -> None:
        if isinstance(want, BackingFile) and want.path.parent.name == name:
            begun.set()
            assert ended.wait(PATIENCE_S)
        ensure(want)

    machine.kernel.ensure = slow  # type: ignore[method-assign]
    try:
        yield begun
    finally:
        ended.set()


def test_one_volume_waits_for_its_turn_to_end_and_the_others_do_not(machine: Machine) -> None:
    for name in "abc":
        machine.create(name)
    with ThreadPoolExecutor() as pool:
        with stuck(machine, "b") as begun:
            reconciled = pool.submit(machine.driver.reconcile)
            assert begun.wait(PATIENCE_S)
            # One that had its turn, one that has not, one that reconcile has never heard of.
            for name in "ac":
                machine.mount(name, "c1")
            machine.create("d")
            machine.mount("d", "c1")
            waiting = pool.submit(machine.mount, "b", "c1")
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
        assert reconciled.result(PATIENCE_S) == DONE
        waiting.result(PATIENCE_S)
    machine.is_settled()
    assert machine.names() == ["a", "b", "c", "d"]


def test_what_goes_while_another_has_its_turn_stays_gone(machine: Machine) -> None:
    for name in "abc":
        machine.create(name)
        machine.mount(name, "c1")
    with ThreadPoolExecutor() as pool:
        with stuck(machine, "b") as begun:
            reconciled = pool.submit(machine.driver.reconcile)
            assert begun.wait(PATIENCE_S)
            for name in "ac":
                machine.unmount(name, "c1")
                machine.remove(name)
        assert reconciled.result(PATIENCE_S) == DONE
    machine.is_settled()
    assert machine.names() == ["b"]


def test_everybody_waits_only_if_there_is_something_to_sweep(machine: Machine) -> None:
    machine.create("a")
    stray = Mount(LAYOUT.mount_root / "x", Path("/state/volumes/x/image.ext4"), "ext4", "_data")
    with ThreadPoolExecutor() as pool:
        with machine.driver.locks.hold("somebody"):
            assert pool.submit(machine.driver.reconcile).result(PATIENCE_S) == DONE
            machine.kernel.objects[stray.key] = stray
            sweeping = pool.submit(machine.driver.reconcile)
            with pytest.raises(TimeoutError):
                sweeping.result(0.2)
            assert stray.key in machine.kernel.objects
        assert sweeping.result(PATIENCE_S) == Outcome(undone=0, swept=1, failures=())
    machine.is_settled()


def test_half_a_group_goes_whole_also_if_that_is_cut_short(machine: Machine) -> None:
    """Killed between finishing one snapshot and the other, and then at every step of the recovery from that."""
    for name in "vw":
        machine.create(name)
    half = step_that_leaves_half(machine)
    recovered = 0
    for step in count(1):
        with pytest.raises(Death):
            take_both(machine, half)
        machine.steps.arm(step, fatal=True)
        try:
            machine.driver.reconcile()
        except Death:
            recovered += 1
        whole = machine.steps.taken < step
        machine.restart()
        machine.is_settled()
        assert machine.admin.list_snapshots(SnapshotsRequest()).Snapshots == ()
        if whole:
            break
    assert recovered > 10


def take_both(machine: Machine, death_at: int) -> None:
    """There are both snapshots, or the process was killed at that step. The first that is settled is finished last."""
    machine.steps.arm(death_at, fatal=True)
    try:
        machine.instants.create_group(GroupRequest(("w@s", "v@s"), 5))
    finally:
        machine.steps.disarm()


def step_that_leaves_half(machine: Machine) -> int:
    """Return the step at which one of the snapshots is finished and the other is not. There are none afterwards."""
    for step in count(1):
        with pytest.raises(Death):
            take_both(machine, step)
        made = [row.current.created_at for row in machine.store.rows(SNAPSHOT) if row.current is not None]
        machine.restart()
        if len(made) == 2 and len(set(map(bool, made))) == 2:
            return step
    raise AssertionError
