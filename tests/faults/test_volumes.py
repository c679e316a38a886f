"""pyvol among faults: after each of FAULT_STEPS verbs and faults all is as a model says, and no data is lost.

A few here, a thousand by `make chaos`. The seed is printed; CHAOS_SEED repeats the choices.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from integration.lab.clock import WallClock
from tests.faults import plugin
from tests.faults.campaign import Campaign
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
            campaign = VolumeCampaign(service, disk, clock, chance)
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


class VolumeCampaign(Campaign):
    """Data is written, too, to what is mounted.

    While the disk fails nothing is mounted: images are sparse, and what befalls the disk is then an error of the
    filesystem in them; tests/volume/test_power_cut.py is about that. What is mounted keeps the disk writable.
    """

    def __init__(self, service: Service, disk: Disk, clock: WallClock, chance: Chance) -> None:
        super().__init__(service, disk, clock, chance)
        self.model = Volumes(service.state_dir)

    def step(self) -> str:
        mounted = self.model.is_mounted()
        if not mounted or self.random.random() >= 0.2:
            return super().step()
        self.model.write(self.random.choice(mounted), self.random.randbytes(self.random.randrange(1, 50_000)).hex())
        self.done["write"] += 1
        return "write"

    def is_as_the_model_says(self) -> None:
        """Assert that the plugin, which was told to look if it refused something, is as the model says."""
        if self.refused is not None:
            self.model.finished(self.refused)
            self.refused = None
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

    def come_back_with(self, content: bytes) -> None:
        self.serving.kill()
        for path in mounted_below(self.serving.state_dir):
            subprocess.run(["umount", path], check=True)
        until(lambda: attached_below(self.serving.state_dir) == [], "the loop devices are gone")
        self.disk.revert(content)
        self.serving.start()
        self.refused = None
        self.model.lost_power()

    def busy(self) -> None:
        """Somebody has a file open in a volume that nobody has any more (EBUSY): it is unmounted when he has ended."""
        for name in self.model.is_mounted()[:1]:
            caller, *others = self.model.volumes[name].callers.elements()
            for other in others:
                self.model.unmount(name, other).take(self.serving.ask)
            last = self.model.unmount(name, caller)
            with (self.model.place(name) / "open").open("w"):
                status, answer = self.serving.ask(last.method, dict(last.body))
            if status == OK:
                last.judge(status, answer)
            else:
                assert "EBUSY" in str(answer["Err"]), answer
                self.refused = last
        self.put_right()

    def unmounted(self) -> None:
        """Somebody else unmounts a volume that is in use."""
        for name in self.model.is_mounted()[:1]:
            subprocess.run(["umount", str(self.model.mount_root / name)], check=True)
        self.put_right()

    def detached(self) -> None:
        """Somebody else detaches the loop device of a volume, which goes with the last one that uses it."""
        for device in attached_below(self.serving.state_dir)[:1]:
            subprocess.run(["losetup", "--detach", device], check=True)
        self.put_right()

    def put_right(self) -> None:
        """It was told to look, and has."""
        self.serving.process.send_signal(signal.SIGHUP)
        going = self.refused.removes if self.refused else frozenset()
        places = [self.model.place(name) for name in self.model.is_mounted() if name not in going]
        until(lambda: all(place.is_dir() for place in places), "the volumes are mounted")
        until(lambda: (seen := self.model.seen()) and not seen.Unfinished and not seen.Strays, "all is settled")

    def let_go(self) -> None:
        for name in self.model.is_mounted():
            for caller in list(self.model.volumes[name].callers.elements()):
                self.model.unmount(name, caller).take(self.serving.ask)
        until(lambda: attached_below(self.serving.state_dir) == [], "the loop devices are gone")
