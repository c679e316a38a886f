"""Random histories: verbs, deaths, errors, reboots, meddling. After any of them one reconcile is enough."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pluginkit.errors import PluginError, is_expected
from tests.crash.domain import ENDPOINT, NETWORK, Bridge, Endpoint, Move, Network, Port, Rules, SmallWorld, Veth
from tests.crash.fake_kernel import Death, Steps

SHM = Path("/dev/shm")

networks = st.none() | st.builds(Network, st.sampled_from((1500, 9000)), st.booleans())
ports = st.lists(st.sampled_from((80, 81, 82)), unique=True, max_size=3).map(tuple)
endpoints = st.none() | st.builds(Endpoint, st.just("10.0.0.2"), st.sampled_from((None, "/1", "/2")), ports)
# Host ports are one for the whole host; two endpoints that want the same are refused by the driver, not by the core.
others = st.none() | st.builds(
    Endpoint, st.just("10.0.0.3"), st.sampled_from((None, "/3")), st.sampled_from(((), (8080,)))
)
moves = (
    st.builds(Move, st.just("network"), st.just(NETWORK), st.just("n"), networks)
    | st.builds(Move, st.just("endpoint a"), st.just(ENDPOINT), st.just("a"), endpoints)
    | st.builds(Move, st.just("endpoint b"), st.just(ENDPOINT), st.just("b"), others)
)
steps = st.integers(1, 40)
strays = st.sampled_from(
    (
        Bridge("n", 1),
        Bridge("stray", 1),
        Rules("n"),
        Rules("stray"),
        Veth("n", "10.0.0.2", "/9"),
        Veth("stray", "10.9.9.9", "/9"),
        Port(80, "10.9.9.9"),
        Port(9999, "10.9.9.9"),
    )
)


def attempt(steps: Steps, action: Callable[[], object]) -> str:
    """Return how `action` ended; then nothing strikes any more. Only expected errors may leave it, also in a group."""
    try:
        action()
    except Death:
        return "died"
    except PluginError:
        return "failed"
    except ExceptionGroup as group:
        if not is_expected(group):
            raise
        return "failed"
    finally:
        steps.disarm()
    return "done"


class Machine(RuleBasedStateMachine):
    """One host on which anything may happen at any time."""

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory(dir=SHM if os.access(SHM, os.W_OK) else None)
        self.world = SmallWorld(Path(self.directory.name))

    def start_again(self) -> None:
        dead, self.world = self.world, self.world.clone()
        dead.close()

    @rule(move=moves)
    def verb(self, move: Move) -> None:
        if attempt(self.world.steps, lambda: self.world.do(move)) == "done":
            row = self.world.row(move)
            assert self.world.record(move) == move.new
            assert row is None or not row.pending

    @rule(move=moves, step=steps)
    def verb_with_death(self, move: Move, step: int) -> None:
        self.world.steps.arm(step, fatal=True)
        if attempt(self.world.steps, lambda: self.world.do(move)) == "died":
            self.start_again()

    @rule(move=moves, step=steps, for_good=st.booleans())
    def verb_with_error(self, move: Move, step: int, for_good: bool) -> None:
        self.world.steps.arm(step, fatal=False, for_good=for_good)
        attempt(self.world.steps, lambda: self.world.do(move))

    @rule(step=steps)
    def reconcile_with_death(self, step: int) -> None:
        self.world.steps.arm(step, fatal=True)
        if attempt(self.world.steps, self.world.reconcile) == "died":
            self.start_again()

    @rule(step=steps)
    def reconcile_with_error(self, step: int) -> None:
        self.world.steps.arm(step, fatal=False)
        assert attempt(self.world.steps, self.world.reconcile) == "done"

    @rule(stray=strays)
    def something_is_added_or_changed(self, stray: Bridge | Rules | Veth | Port) -> None:
        self.world.kernel.objects[stray.key] = stray

    @precondition(lambda self: self.world.kernel.objects)
    @rule(data=st.data())
    def something_is_lost(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.world.kernel.objects)))
        del self.world.kernel.objects[key]

    @rule()
    def process_is_killed_at_rest(self) -> None:
        self.start_again()

    @rule()
    def reboot(self) -> None:
        self.world.reboot()

    @rule()
    def reconcile(self) -> None:
        """Whatever happened before, one reconcile is enough, and after it every verb works."""
        self.world.settles()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            with self.directory, closing(self.world):
                self.world.settles()


TestRandomWalks = Machine.TestCase
