"""Death, and an error, at every step of every verb, of every recovery, and of the recovery of a recovery."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from pluginkit.errors import KernelError, Unavailable
from tests.crash.domain import ENDPOINT, NETWORK, Endpoint, Move, Network, SmallWorld
from tests.crash.walks import cloned, deaths, recoveries

SCRIPT = (
    Move("create network", NETWORK, "n", Network()),
    Move("create network again", NETWORK, "n", Network()),
    Move("create endpoint", ENDPOINT, "a", Endpoint("10.0.0.2")),
    Move("join", ENDPOINT, "a", Endpoint("10.0.0.2", "/netns/1")),
    Move("publish", ENDPOINT, "a", Endpoint("10.0.0.2", "/netns/1", (80, 443))),
    Move("create second endpoint joined", ENDPOINT, "b", Endpoint("10.0.0.3", "/netns/2", (8080,))),
    Move("publish others", ENDPOINT, "a", Endpoint("10.0.0.2", "/netns/1", (443, 8443))),
    Move("change in place", ENDPOINT, "a", Endpoint("10.0.0.2", "/netns/3", (443, 8443))),
    Move("change network", NETWORK, "n", Network(mtu=9000, masquerade=False)),
    Move("change network back", NETWORK, "n", Network()),
    Move("change address", ENDPOINT, "b", Endpoint("10.0.0.4", "/netns/2", (8080,))),
    Move("leave", ENDPOINT, "a", Endpoint("10.0.0.2")),
    Move("delete endpoint", ENDPOINT, "a", None),
    Move("delete endpoint again", ENDPOINT, "a", None),
    Move("delete second endpoint joined", ENDPOINT, "b", None),
    Move("delete network", NETWORK, "n", None),
)
# Moves of what has no children, which would be in the way of some other moves.
WITHOUT_CHILDREN = [
    index for index, move in enumerate(SCRIPT) if move.planned is ENDPOINT or index in (0, 1, len(SCRIPT) - 1)
]
BY_NAME = pytest.mark.parametrize("index", range(len(SCRIPT)), ids=[move.name for move in SCRIPT])


def before(world: SmallWorld, index: int) -> SmallWorld:
    """Bring `world` to where the verb `index` begins."""
    for move in SCRIPT[:index]:
        world.do(move)
        world.is_settled()
    return world


@BY_NAME
def test_death_at_every_step_leaves_the_old_record_or_the_new(world: SmallWorld, index: int) -> None:
    move = SCRIPT[index]
    old = before(world, index).record(move)
    died = 0
    for revived in deaths(world, move):
        died += 1
        row = revived.row(move)
        interrupted = row is not None and row.pending
        committed = row.current if row else None
        revived.settles()
        # A deletion goes on, because its caller will not ask again; all else goes back, because nobody was told.
        expected = None if interrupted and move.new is None else committed
        assert revived.record(move) == expected
        assert expected in (old, move.new)
    # Three steps to write each of intention and commit down, and more where the kernel has something to do.
    assert died >= (0 if old is move.new is None else 6)


@BY_NAME
def test_after_death_at_every_step_the_repeated_verb_succeeds(world: SmallWorld, index: int) -> None:
    """The engine may repeat its request before any reconcile was complete."""
    move = SCRIPT[index]
    before(world, index)
    for revived in deaths(world, move):
        revived.do(move)
        assert revived.record(move) == move.new
        revived.settles()
        assert revived.record(move) == move.new


@pytest.mark.parametrize("index", WITHOUT_CHILDREN, ids=[SCRIPT[index].name for index in WITHOUT_CHILDREN])
def test_after_death_at_every_step_another_verb_leaves_exactly_what_it_means(world: SmallWorld, index: int) -> None:
    """What the dead one had begun must not stay beside it, also before any reconcile."""
    move = SCRIPT[index]
    old = before(world, index).record(move)
    for new in (old, None, move.new):
        for revived in deaths(world, move):
            revived.do(replace(move, new=new))
            assert revived.record(move) == new
            revived.is_settled()


@BY_NAME
def test_death_at_every_step_of_the_recovery_and_of_its_recovery(world: SmallWorld, index: int) -> None:
    move = SCRIPT[index]
    old = before(world, index).record(move)
    for once in deaths(world, move):
        for twice in recoveries(once):
            for thrice in recoveries(twice, every=5):
                thrice.settles()
                assert thrice.record(move) in (old, move.new)
            twice.settles()
            assert twice.record(move) in (old, move.new)


@BY_NAME
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_an_error_at_every_step_is_told_and_undone_or_left_to_a_reconcile(
    world: SmallWorld, index: int, for_good: bool
) -> None:
    move = SCRIPT[index]
    old = before(world, index).record(move)
    for step in count(1):
        with cloned(world) as failing:
            objects = dict(failing.kernel.objects)
            failing.steps.arm(step, fatal=False, for_good=for_good)
            try:
                failing.do(move)
            except* (KernelError, Unavailable):
                pass
            else:
                assert failing.record(move) == move.new
                failing.is_settled()
                if failing.steps.taken < step:
                    break
                continue
            failing.steps.disarm()
            row = failing.row(move)
            assert (row.current if row else None) == old
            if row is None or not row.pending:
                assert failing.kernel.objects == objects
            failing.settles()
            assert failing.record(move) in ((old, None) if move.new is None else (old,))


@BY_NAME
def test_a_verb_that_cannot_make_something_is_undone_at_once(world: SmallWorld, index: int) -> None:
    """What the engine was refused is not there in any part, also if no reconcile ever comes."""
    move = SCRIPT[index]
    old = before(world, index).record(move)
    refused = 0
    for step in count(1):
        with cloned(world) as failing:
            failing.steps.arm(step, fatal=False)
            try:
                failing.do(move)
            except KernelError:
                refused += 1
                assert failing.record(move) == old
                failing.is_settled()
            except (ExceptionGroup, Unavailable):
                pass  # Something could not be removed, or written: that is left to a reconcile.
            if failing.steps.taken < step:
                break
    assert refused >= (0 if move.new in (None, Endpoint("10.0.0.2")) else 2)


@BY_NAME
def test_an_error_at_every_step_of_a_reconcile_is_reported_and_the_next_one_succeeds(
    world: SmallWorld, index: int
) -> None:
    move = SCRIPT[index]
    before(world, index)
    for revived in deaths(world, move):
        for step in count(1):
            with cloned(revived) as failing:
                failing.steps.arm(step, fatal=False)
                outcome = failing.reconcile()
                if failing.steps.taken < step:
                    break
                # The step after a committed write is the only one that cannot fail.
                if not outcome.failures:
                    failing.is_settled()
                failing.settles()


STATES = {
    NETWORK: (None, Network(), Network(mtu=9000), Network(masquerade=False), Network(9000, masquerade=False)),
    ENDPOINT: (
        None,
        Endpoint("10.0.0.2"),
        Endpoint("10.0.0.2", "/netns/1"),
        Endpoint("10.0.0.2", "/netns/2", (80,)),
        Endpoint("10.0.0.2", "/netns/1", (80, 443)),
        Endpoint("10.0.0.3", "/netns/1", (443, 80)),
    ),
}


@pytest.mark.parametrize("planned", STATES, ids=lambda planned: planned.kind.name)
def test_from_any_state_to_any_state_dying_at_every_step(root, planned) -> None:
    for old in STATES[planned]:
        for new in STATES[planned]:
            world = SmallWorld(root)
            if planned is ENDPOINT:
                world.do(Move("", NETWORK, "n", Network()))
            world.do(Move("from", planned, "n" if planned is NETWORK else "a", old))
            move = Move("to", planned, "n" if planned is NETWORK else "a", new)
            for revived in deaths(world, move):
                revived.settles()
                assert revived.record(move) in (old, new)
            world.do(move)
            assert world.record(move) == new
            world.is_settled()
            world.close()
