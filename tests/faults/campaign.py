"""What befalls a plugin, whichever it is, and what is asked of it meanwhile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter

from integration.lab.clock import WallClock
from tests.faults import plugin
from tests.faults.disk import Disk
from tests.faults.plugin import Chance
from tests.reference.step import Step
from tests.serving import PATIENCE_S, Serving


class Campaign(ABC):
    """Chooses the next verb or fault, each of which is a method of that name.

    disk: where the plugin has its records. clock: what it takes for the time. patience_s: how long a fault may keep it.
    """

    patience_s = PATIENCE_S

    def __init__(self, serving: Serving, disk: Disk, clock: WallClock, chance: Chance) -> None:
        self.serving, self.disk, self.clock = serving, disk, clock
        self.chance, self.random = chance, chance.random
        self.done: Counter[str] = Counter()
        # What was asked for and refused; the model is told when the plugin has looked.
        self.refused: Step | None = None

    def step(self) -> str:
        """One verb was asked for, or one fault befell and is over; return which."""
        if self.random.random() < 0.4:
            step = self.verb()
            step.take(self.serving.ask)
            name = step.method
        else:
            name = self.chance.fault()
            getattr(self, name)()
        self.done[name] += 1
        return name

    @abstractmethod
    def verb(self) -> Step:
        """Return what could be asked for next."""

    @abstractmethod
    def put_right(self) -> None:
        """It was told to look."""

    @abstractmethod
    def come_back_with(self, content: bytes) -> None:
        """It was killed, and runs again with a disk of that content, which the model has followed."""

    @abstractmethod
    def let_go(self) -> None:
        """Nothing but the plugin itself uses the disk."""

    def kill(self) -> None:
        plugin.killed(self.serving, self.random)

    def stop(self) -> None:
        plugin.stopped(self.serving, self.chance.seconds(0.5, 10), self.verb())

    def full(self) -> None:
        self.let_go()
        with self.disk.full():
            self.try_to(self.verb())
        self.put_right()

    def disk_dies(self) -> None:
        """What is asked for meanwhile is lost with it, so that nothing may have been promised."""
        self.let_go()
        before = self.disk.at_this_instant()
        with self.disk.failing():
            self.try_to(self.verb())
        self.come_back_with(before)

    def power_cut(self) -> None:
        self.let_go()
        self.verb().take(self.serving.ask)
        self.come_back_with(self.disk.at_this_instant())

    def read_only(self) -> None:
        self.let_go()
        plugin.read_only(self.serving, self.disk)

    def half_a_file(self) -> None:
        plugin.half_a_file(self.serving, self.random)

    def half_a_frame(self) -> None:
        plugin.half_a_frame(self.serving, self.random)

    def few_descriptors(self) -> None:
        with plugin.few_descriptors(self.serving):
            self.try_to(self.verb())
        self.put_right()

    def clock_jumps(self) -> None:
        plugin.jumped(self.clock, self.random)
        self.verb().take(self.serving.ask)

    def second(self) -> None:
        with plugin.second(self.serving, self.chance.seconds(1, 40)):
            self.verb().take(self.serving.ask)

    def try_to(self, step: Step) -> None:
        """It was asked for while something befell the plugin, which may refuse it."""
        self.refused = plugin.try_to(step, lambda method, body: self.serving.ask(method, body, self.patience_s))
