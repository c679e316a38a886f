"""pyvol among faults: after each of FAULT_STEPS verbs and faults all is as a model says, and no data is lost.

A few here, a thousand by `make chaos`. The seed is printed; CHAOS_SEED repeats the choices.
"""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from integration.lab.clock import WallClock
from tests.faults import plugin
from tests.faults.disk import Disk
from tests.faults.plugin import Chance
from tests.reference.step import OK, Step
from tests.reference.volumes import CALLERS, NAMES, SIZES, Volumes
from tests.serving import until
from tests.volume.conftest import attached_below, mounted_below
from tests.volume.serving import Service

SHORT = 24
DISK_MIB = 144
FAULTS = (
    "kill",
    "stop",
    "full",
    "disk_dies",
    "power_cut",
    "read_only",
    "half_a_file",
    "half_a_frame",
    "few_descriptors",
    "clock_jumps",
    "second",
    "busy",
    "unmounted",
    "detached",
)


@pytest.mark.timeout(240 + 20 * Chance.steps)
@pytest.mark.usefixtures("mount_namespace")
def test_volumes_among_faults(tmp_path: Path) -> None:
    chance = Chance("volumes", SHORT, FAULTS)
    clock, disk = WallClock(tmp_path), Disk(tmp_path / "state", DISK_MIB)
    try:
        service = Service(tmp_path, "--reconcile-every", "3600", env=clock.env)
        try:
            campaign = Campaign(service, disk, clock, chance)
            for number in range(chance.steps):
                name = campaign.step()
                print(f"step {number + 1}: {name}")
                campaign.is_as_the_model_says()
            campaign.model.end(service.ask)
            assert (attached_below(service.state_dir), mounted_below(service.state_dir)) == ([], [])
            assert [entry.name for entry in (service.state_dir / "volumes").rglob("*")] in ([], [".trash"])
            assert plugin.bugs(service) == 0
            print(dict(campaign.done))
        finally:
            service.kill()
    finally:
        disk.close()


class Campaign:
    """Chooses the next verb or fault."""

    def __init__(self, service: Service, disk: Disk, clock: WallClock, chance: Chance) -> None:
        self.service, self.disk, self.clock = service, disk, clock
        self.chance, self.random = chance, chance.random
        self.model = Volumes(service.state_dir)
        self.done: Counter[str] = Counter()
        self._refused: Step | None = None

    def step(self) -> str:
        """One verb was asked for, or one fault befell and is over; return which."""
        mounted = self.model.is_mounted()
        if mounted and self.random.random() < 0.2:
            self.model.write(self.random.choice(mounted), self.random.randbytes(self.random.randrange(1, 50_000)).hex())
            name = "write"
        elif self.random.random() < 0.4:
            step = self.verb()
            step.take(self.service.ask)
            name = step.method
        else:
            name = self.chance.fault()
            getattr(self, name)()
        self.done[name] += 1
        return name

    def is_as_the_model_says(self) -> None:
        """Assert that the plugin, which was told to look if it refused something, is as the model says."""
        if self._refused is not None:
            self.model.finished(self._refused)
            self._refused = None
        self.model.is_so()

    def verb(self) -> Step:
        chance, model = self.random, self.model
        name, caller = chance.choice(NAMES), chance.choice(CALLERS)
        if name not in model.volumes:
            return model.create(name, chance.choice(SIZES))
        match chance.randrange(6):
            case 0:
                return model.remove(name)
            case 1 | 2:
                return model.unmount(name, chance.choice(sorted(model.volumes[name].callers) or [caller]))
            case _:
                return model.mount(name, caller)

    def kill(self) -> None:
        plugin.killed(self.service, self.random)

    def stop(self) -> None:
        plugin.stopped(self.service, self.chance.seconds(0.5, 10), self.verb())

    def full(self) -> None:
        """While nothing is mounted: images are sparse, and a full disk is then an error of the filesystem in them."""
        self._let_go()
        with self.disk.full():
            self.try_to(self.verb())
        self.put_right()

    def disk_dies(self) -> None:
        """While nothing is mounted. What is asked for meanwhile is lost, so that nothing may have been promised."""
        self._let_go()
        before = self.disk.at_this_instant()
        with self.disk.failing():
            self.try_to(self.verb())
        self.come_back_with(before)

    def power_cut(self) -> None:
        """While nothing is mounted: tests/volume/test_power_cut.py is about what is."""
        self._let_go()
        self.verb().take(self.service.ask)
        self.come_back_with(self.disk.at_this_instant())

    def come_back_with(self, content: bytes) -> None:
        self.service.kill()
        for path in mounted_below(self.service.state_dir):
            subprocess.run(["umount", path], check=True)
        until(lambda: attached_below(self.service.state_dir) == [], "the loop devices are gone")
        self.disk.revert(content)
        self.service.start()
        self._refused = None
        self.model.lost_power()

    def read_only(self) -> None:
        """While nothing is mounted: what is, keeps the disk writable."""
        self._let_go()
        plugin.read_only(self.service, self.disk)

    def half_a_file(self) -> None:
        plugin.half_a_file(self.service, self.random)

    def half_a_frame(self) -> None:
        plugin.half_a_frame(self.service, self.random)

    def few_descriptors(self) -> None:
        with plugin.few_descriptors(self.service):
            self.try_to(self.verb())
        self.put_right()

    def clock_jumps(self) -> None:
        plugin.jumped(self.clock, self.random)
        self.verb().take(self.service.ask)

    def second(self) -> None:
        with plugin.second(self.service, self.chance.seconds(1, 40)):
            self.verb().take(self.service.ask)

    def busy(self) -> None:
        """Somebody has a file open in a volume that nobody has any more (EBUSY): it is unmounted when he has ended."""
        for name in self.model.is_mounted()[:1]:
            caller, *others = self.model.volumes[name].callers.elements()
            for other in others:
                self.model.unmount(name, other).take(self.service.ask)
            last = self.model.unmount(name, caller)
            with (self.model.place(name) / "open").open("w"):
                status, answer = self.service.ask(last.method, dict(last.body))
            if status == OK:
                last.judge(status, answer)
            else:
                assert "EBUSY" in str(answer["Err"]), answer
                self._refused = last
        self.put_right()

    def unmounted(self) -> None:
        """Somebody else unmounts a volume that is in use."""
        for name in self.model.is_mounted()[:1]:
            subprocess.run(["umount", str(self.model.mount_root / name)], check=True)
        self.put_right()

    def detached(self) -> None:
        """Somebody else detaches the loop device of a volume, which goes with the last one that uses it."""
        for device in attached_below(self.service.state_dir)[:1]:
            subprocess.run(["losetup", "--detach", device], check=True)
        self.put_right()

    def try_to(self, step: Step) -> None:
        self._refused = plugin.try_to(step, self.service.ask)

    def put_right(self) -> None:
        """It was told to look, and has."""
        self.service.process.send_signal(signal.SIGHUP)
        going = self._refused.removes if self._refused else frozenset()
        places = [self.model.place(name) for name in self.model.is_mounted() if name not in going]
        until(lambda: all(place.is_dir() for place in places), "the volumes are mounted")
        until(lambda: (seen := self.model.seen()) and not seen.Unfinished and not seen.Strays, "all is settled")

    def _let_go(self) -> None:
        for name in self.model.is_mounted():
            for caller in list(self.model.volumes[name].callers.elements()):
                self.model.unmount(name, caller).take(self.service.ask)
        until(lambda: attached_below(self.service.state_dir) == [], "the loop devices are gone")
