"""Walks through a verb, or a recovery, that end in death at every step in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from typing import TypeVar

from tests.crash.fake_kernel import Death
from tests.crash.world import World

W = TypeVar("W", bound=World)


@contextmanager
def cloned(world: W) -> Iterator[W]:
    """Inside the block there is another machine in the state of `world`, its process started anew."""
    with closing(world.clone()) as other:
        yield other


def deaths(world: W, verb: Callable[[W], object], every: int = 1) -> Iterator[W]:
    """Yield a machine started anew after each death that there is inside `verb`. `world` itself stays as it is.

    every: only one of so many deaths, where there are too many to wait for.
    """
    for step in count(1, every):
        with cloned(world) as dying:
            dying.steps.arm(step, fatal=True)
            try:
                verb(dying)
            except Death:
                with cloned(dying) as revived:
                    yield revived
                continue
            except ExceptionGroup:
                pass  # Refused, as it would have been without us: it lived through all of its steps.
            return


def recoveries(world: W, every: int = 1) -> Iterator[W]:
    """Yield a machine started anew after each death that there is inside a reconcile of `world`."""
    return deaths(world, lambda dying: dying.reconcile(), every)
