"""Death at every step of every verb: afterwards nothing is lost that was promised, and nothing is left over."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from tests.crash.fake_kernel import Death
from tests.volume.machine import Machine

Verb = Callable[[Machine], None]


def create(machine: Machine) -> None:
    machine.create("v", size="64M")


def mount(machine: Machine) -> None:
    machine.mount("v", "c1")


def mount_again(machine: Machine) -> None:
    machine.mount("v", "c2")


def unmount(machine: Machine) -> None:
    machine.unmount("v", "c1")


def remove(machine: Machine) -> None:
    machine.remove("v")


@pytest.mark.parametrize(
    ("before", "verb"),
    [
        ((), create),
        ((create,), mount),
        ((create, mount), mount_again),
        ((create, mount), mount),
        ((create, mount), unmount),
        ((create, mount, mount_again), unmount),
        ((create,), remove),
    ],
)
def test_death_at_every_step(machine: Machine, before: tuple[Verb, ...], verb: Verb) -> None:
    for _ in machine.deaths(verb, *before, least=4):
        if verb is not create:
            was_removed = verb is remove and machine.names() == []
            assert was_removed or machine.names() == ["v"], "what the engine was told of is lost"
        # The engine repeats what it got no answer for.
        verb(machine)
        machine.is_settled()
        clear(machine)


@pytest.mark.parametrize("verb", [create, remove], ids=["create", "remove"])
def test_death_at_every_step_of_a_recovery(machine: Machine, verb: Verb) -> None:
    for step in count(1):
        for recovery in count(1):
            if verb is remove:
                create(machine)
            machine.steps.arm(step, fatal=True)
            try:
                verb(machine)
            except Death:
                pass
            else:
                return
            machine.store.close()
            machine.steps.arm(recovery, fatal=True)
            try:
                machine.start()
            except Death:
                machine.restart()
                machine.is_settled()
                clear(machine)
            else:
                machine.steps.disarm()
                machine.is_settled()
                clear(machine)
                break


def clear(machine: Machine) -> None:
    """The machine has no volume."""
    machine.steps.disarm()
    machine.kill_engine()
    machine.remove("v")
    assert machine.kernel.objects == {}
    assert machine.names() == []
