"""Reconcile: orphans, drift, reboots, parents that end under their children, and what refuses to go."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pluginkit.errors import KernelError, NotFound, StateError
from pluginkit.reconcile import Outcome
from pluginkit.store import Store
from tests.crash.domain import (
    ENDPOINT,
    NETWORK,
    Bridge,
    Endpoint,
    Move,
    Network,
    Port,
    Rules,
    SmallWorld,
    Veth,
)
from tests.crash.walks import cloned, deaths, recoveries

CREATE_NETWORK = Move("create network", NETWORK, "n", Network())
DELETE_NETWORK = Move("delete network", NETWORK, "n", None)
JOINED = Move("join", ENDPOINT, "a", Endpoint("10.0.0.2", "/netns/1", (80, 443)))
OTHER = Move("join", ENDPOINT, "b", Endpoint("10.0.0.3", "/netns/2"))


FOREIGN = ("not", "ours")


class ForeignVeth(Veth):
    """Somebody else's, on a bridge of ours: `owned` does not list it, and the bridge cannot go while it is there."""


@pytest.fixture
def running(world: SmallWorld) -> SmallWorld:
    """A network with two joined endpoints."""
    for move in (CREATE_NETWORK, JOINED, OTHER):
        world.do(move)
    return world


def test_orphans_of_every_type_are_swept_children_first(running: SmallWorld) -> None:
    orphans = (Bridge("x", 1500), Rules("x"), Veth("x", "10.9.0.2", "/netns/9"), Port(8443, "10.9.0.2"))
    for orphan in orphans:
        running.kernel.objects[orphan.key] = orphan
    assert running.reconcile() == Outcome(undone=0, swept=len(orphans), failures=())
    running.is_settled()


def test_what_does_not_carry_our_name_is_not_touched(running: SmallWorld) -> None:
    class Foreign:
        key = ("bridge", "docker0")

    foreign = Foreign()
    running.kernel.objects[foreign.key] = foreign
    running.reconcile()
    assert running.kernel.objects.pop(foreign.key) is foreign
    running.is_settled()


def test_an_orphan_that_cannot_be_removed_does_not_keep_the_others(running: SmallWorld) -> None:
    held, free = Bridge("held", 1500), Bridge("free", 1500)
    running.kernel.objects |= {held.key: held, free.key: free, FOREIGN: ForeignVeth("held", "10.9.0.2", "/netns/9")}
    outcome = running.reconcile()
    assert outcome.swept == 1
    [failed] = outcome.failures
    assert isinstance(failed, KernelError)
    assert failed.code == errno.EBUSY
    assert free.key not in running.kernel.objects


DRIFT = {
    "a bridge lost with all that hangs on it": lambda objects: objects.clear(),
    "a port lost": lambda objects: objects.pop(("port", "80")),
    "a rule flushed": lambda objects: objects.pop(("rules", "n")),
    "an mtu changed": lambda objects: objects.update({("bridge", "n"): Bridge("n", 1)}),
    "a port pointing elsewhere": lambda objects: objects.update({("port", "80"): Port(80, "10.0.0.9")}),
}


@pytest.mark.parametrize("drift", DRIFT.values(), ids=DRIFT.keys())
def test_what_others_changed_is_put_right(running: SmallWorld, drift: Any) -> None:
    drift(running.kernel.objects)
    assert running.reconcile() == Outcome(undone=0, swept=0, failures=())
    running.is_settled()


def test_a_reboot_ends_endpoints_and_brings_networks_back(running: SmallWorld) -> None:
    running.reboot()
    assert running.store.rows(ENDPOINT.kind) == []
    assert running.reconcile() == Outcome(undone=0, swept=0, failures=())
    assert running.record(CREATE_NETWORK) == Network()
    running.is_settled()
    running.do(JOINED)
    running.is_settled()


@pytest.mark.parametrize(
    "move", [DELETE_NETWORK, Move("", NETWORK, "n", Network(9000)), JOINED], ids=["-", "+", "join"]
)
def test_a_reboot_in_the_middle_of_anything(world: SmallWorld, move: Move) -> None:
    world.do(CREATE_NETWORK)
    for revived in deaths(world, move):
        revived.reboot()
        revived.settles()
        assert revived.store.rows(ENDPOINT.kind) == []
        assert revived.record(CREATE_NETWORK) in (Network(), Network(9000) if move.new else None)


def test_death_at_every_step_of_the_recovery_from_a_reboot(running: SmallWorld) -> None:
    running.reboot()
    for revived in recoveries(running):
        revived.settles()
        assert revived.record(CREATE_NETWORK) == Network()


@pytest.mark.parametrize("joined", [True, False])
def test_children_of_a_parent_that_is_being_deleted_go_with_it(world: SmallWorld, joined: bool) -> None:
    """DeleteNetwork's promise was on record when the process died: endpoints cannot outlive it."""
    world.do(CREATE_NETWORK)
    world.do(JOINED if joined else Move("create", ENDPOINT, "a", Endpoint("10.0.0.2")))
    ended = 0
    for revived in deaths(world, DELETE_NETWORK):
        doomed = revived.pending() == ["n"]
        revived.settles()
        if doomed or revived.record(DELETE_NETWORK) is None:
            ended += 1
            assert revived.kernel.objects == {}
    assert ended


def test_death_at_every_step_of_ending_a_parent_with_children(running: SmallWorld) -> None:
    for once in deaths(running, DELETE_NETWORK):
        for twice in recoveries(once):
            twice.settles()


def test_children_without_a_parent_are_dropped_and_their_objects_swept(running: SmallWorld) -> None:
    running.store.intend(NETWORK.kind, "n", "", None)
    running.store.commit(NETWORK.kind, "n")
    outcome = running.reconcile()
    assert (outcome.undone, outcome.failures) == (2, ())
    assert running.kernel.objects == {}
    assert running.store.rows(ENDPOINT.kind) == []


def test_a_child_without_a_parent_is_refused_and_leaves_nothing(world: SmallWorld) -> None:
    with pytest.raises(NotFound, match="its network n is not known"):
        world.do(JOINED)
    assert world.store.rows(ENDPOINT.kind) == []
    assert world.kernel.objects == {}


def test_a_deletion_that_cannot_be_finished_is_not_built_up_again(running: SmallWorld) -> None:
    """Half a network that refuses to go is left for the next reconcile, and not made whole by this one."""
    with cloned(running) as stuck:
        stuck.kernel.objects[FOREIGN] = ForeignVeth("n", "10.9.0.9", "/netns/9")
        for move in (Move("", ENDPOINT, "a", None), Move("", ENDPOINT, "b", None)):
            stuck.do(move)
        with pytest.raises(ExceptionGroup, match="cannot take down all of network n"):
            stuck.do(DELETE_NETWORK)
        for _ in range(2):
            assert len(stuck.reconcile().failures) == 1
            assert set(stuck.kernel.objects) == {("bridge", "n"), FOREIGN}
            assert stuck.pending() == ["n"]
        del stuck.kernel.objects[FOREIGN]
        stuck.settles()
        assert stuck.kernel.objects == {}


def test_one_record_that_cannot_be_ensured_does_not_keep_the_others(running: SmallWorld) -> None:
    running.kernel.objects.clear()
    running.steps.arm(1, fatal=False)
    assert len(running.reconcile().failures) == 3
    running.settles()


def test_an_unreadable_record_stops_a_reconcile_before_it_touches_anything(running: SmallWorld) -> None:
    running.store._connection.execute("UPDATE record SET current = '{' WHERE id = 'b'")
    running.kernel.objects[("bridge", "orphan")] = Bridge("orphan", 1)
    running.kernel.changes = 0
    with pytest.raises(StateError, match="endpoint b"):
        running.reconcile()
    assert running.kernel.changes == 0


WRITER = """
import sys
from pathlib import Path
from pluginkit.store import Store
from tests.crash.domain import ENDPOINT, NETWORK, Network
store = Store(Path(sys.argv[1]), [NETWORK.kind, ENDPOINT.kind])
for mtu in range(1, 1_000_000):
    store.intend(NETWORK.kind, "n", "", Network(mtu))
    print("i", mtu, flush=True)
    store.commit(NETWORK.kind, "n")
    print("c", mtu, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 2, 3, 20, 51])
def test_what_a_process_said_it_had_written_outlives_kill_9(tmp_path: Path, lines: int) -> None:
    root = Path(__file__).parents[2]
    program = [sys.executable, "-c", WRITER, str(tmp_path / "state.db")]
    writer = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)})
    assert writer.stdout is not None
    said = [writer.stdout.readline().split() for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    said += [line.split() for line in writer.stdout]
    writer.wait()
    writer.stdout.close()
    committed = max([int(mtu) for what, mtu in said if what == "c"], default=0)
    intended = max(int(mtu) for what, mtu in said if what == "i")
    store = Store(tmp_path / "state.db", [NETWORK.kind, ENDPOINT.kind])
    row = store.get(NETWORK.kind, "n")
    store.close()
    assert row is not None
    now = row.current.mtu if row.current else 0
    following = row.next.mtu if row.next else now
    # One write may have been done and not yet been said.
    assert now - committed in (0, 1)
    assert following - intended in (0, 1)
