"""The simplest VolumeDriver that could be: a dictionary. It says what an answer has to be, and what is inside."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pluginkit import admin
from tests.reference.step import BAD, REFUSED, Ask, Step
from tests.volume.conftest import attached_below, mounted_below
from volplugin.doctor.wire import ServiceAnswer

NAMES = ("v1", "v2", "v3")
CALLERS = ("c1", "c2")
SIZES = ("16M", "24M")
FILE = "file"


@dataclass
class Volume:
    """content: of its one file; "": there is none. callers: how often each has it.

    may_be_unclean: it was mounted when the power went.
    """

    size: str
    content: str = ""
    callers: Counter[str] = field(default_factory=Counter)
    may_be_unclean: bool = False


class Volumes:
    """What the plugin has to have, and what of it is mounted below `mount_root`."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.mount_root = state_dir / "mnt"
        self.volumes: dict[str, Volume] = {}

    def create(self, name: str, size: str) -> Step:
        body = {"Name": name, "Opts": {"size": size}}
        known = self.volumes.get(name)
        if known is not None and known.size != size:
            return Step("VolumeDriver.Create", body, REFUSED, "it exists with other options")

        def then(_answer: Mapping[str, Any]) -> None:
            self.volumes.setdefault(name, Volume(size))

        return Step("VolumeDriver.Create", body, then=then)

    def remove(self, name: str) -> Step:
        if self._is_mounted(name):
            return Step("VolumeDriver.Remove", {"Name": name}, REFUSED, "it is mounted")

        def then(_answer: Mapping[str, Any]) -> None:
            self.volumes.pop(name, None)

        return Step("VolumeDriver.Remove", {"Name": name}, then=then, removes=frozenset({name}))

    def mount(self, name: str, caller: str) -> Step:
        def then(answer: Mapping[str, Any]) -> None:
            assert answer["Mountpoint"] == str(self.place(name))
            self.volumes[name].callers[caller] += 1
            self.volumes[name].may_be_unclean = False

        return self._of_known(Step("VolumeDriver.Mount", {"Name": name, "ID": caller}, then=then))

    def unmount(self, name: str, caller: str) -> Step:
        def then(_answer: Mapping[str, Any]) -> None:
            if name in self.volumes:
                self.volumes[name].callers = self.volumes[name].callers - Counter({caller: 1})

        callers = self.volumes[name].callers if name in self.volumes else Counter[str]()
        removes = frozenset({name} if callers == Counter({caller: 1}) else ())
        return Step("VolumeDriver.Unmount", {"Name": name, "ID": caller}, then=then, removes=removes)

    def path(self, name: str) -> Step:
        def then(answer: Mapping[str, Any]) -> None:
            assert answer["Mountpoint"] == str(self.place(name))

        return self._of_known(Step("VolumeDriver.Path", {"Name": name}, then=then))

    def get(self, name: str) -> Step:
        def then(answer: Mapping[str, Any]) -> None:
            assert answer["Volume"]["Status"].get("mounts", {}) == dict(self.volumes[name].callers)

        return self._of_known(Step("VolumeDriver.Get", {"Name": name}, then=then))

    def list(self) -> Step:
        def then(answer: Mapping[str, Any]) -> None:
            assert [volume["Name"] for volume in answer["Volumes"]] == sorted(self.volumes)

        return Step("VolumeDriver.List", {}, then=then)

    def write(self, name: str, content: str) -> None:
        """The volume, which is mounted, has this in its file, on the disk."""
        with (self.place(name) / FILE).open("w") as file:
            file.write(content)
            file.flush()
            # What is not synced may be lost with the power, and nobody was promised anything.
            os.fsync(file.fileno())
        self.volumes[name].content = content

    def finished(self, refused: Step) -> None:
        """What that request was to remove is gone, if the plugin says so: nothing else may have happened.

        It removes a volume, or the last mount of one.
        """
        seen = {volume.Name: volume for volume in self.seen().Volumes}
        for name in refused.removes & set(self.volumes):
            if name not in seen:
                del self.volumes[name]
            elif not seen[name].Mounts:
                self.volumes[name].callers.clear()

    def lost_power(self) -> None:
        """Who has a volume is what the plugin says; of volumes nothing is ever lost."""
        for volume in self.seen().Volumes:
            known = self.volumes[volume.Name]
            known.may_be_unclean = self._is_mounted(volume.Name) and not volume.Mounts
            known.callers = Counter(volume.Mounts)

    def place(self, name: str) -> Path:
        return self.mount_root / name / "_data"

    def is_mounted(self) -> list[str]:
        return sorted(name for name in self.volumes if self._is_mounted(name))

    def is_so(self) -> None:
        """Assert that mounts, loop devices, records and what is in the mounted volumes are as this model says."""
        mounted = self.is_mounted()
        assert sorted(mounted_below(self.mount_root)) == [str(self.mount_root / name) for name in mounted]
        assert len(attached_below(self.state_dir)) == len(mounted)
        seen = self.seen()
        assert (seen.Unfinished, seen.Strays, seen.Names) == ((), (), tuple(sorted(self.volumes))), seen
        assert {volume.Name: (volume.IsMounted, volume.HasDevice) for volume in seen.Volumes} == {
            name: (name in mounted, name in mounted) for name in self.volumes
        }
        for volume in seen.Volumes:
            is_unclean = volume.State == "unclean" and self.volumes[volume.Name].may_be_unclean
            assert volume.State == "ok" or is_unclean, volume
        assert {volume.Name: volume.Mounts for volume in seen.Volumes} == {
            name: dict(volume.callers) for name, volume in self.volumes.items()
        }
        for name in mounted:
            self.holds(name)

    def seen(self) -> ServiceAnswer:
        """Return what the plugin says of itself to an administrator."""
        return admin.call("pyvol", self.state_dir, "Service.Inspect", {}, ServiceAnswer)

    def holds(self, name: str) -> None:
        """Assert that the volume, which is mounted, has what was written to it."""
        file = self.place(name) / FILE
        assert (file.read_text() if file.exists() else "") == self.volumes[name].content, name

    def end(self, ask: Ask) -> None:
        """Every volume had what was written to it, and all are removed."""
        for name, volume in sorted(self.volumes.items()):
            self.mount(name, "last").take(ask)
            self.holds(name)
            for caller in list(volume.callers.elements()):
                self.unmount(name, caller).take(ask)
            self.remove(name).take(ask)

    def _is_mounted(self, name: str) -> bool:
        return name in self.volumes and bool(self.volumes[name].callers)

    def _of_known(self, step: Step) -> Step:
        if step.body["Name"] in self.volumes:
            return step
        return Step(step.method, step.body, REFUSED, "there is none of that name")


WRONG = (
    Step("VolumeDriver.Create", {"Name": "../etc"}, BAD),
    Step("VolumeDriver.Create", {"Name": "v4", "Opts": {"size": "1"}}, BAD),
    Step("VolumeDriver.Create", {"Name": "v4", "Opts": {"size": "-5M"}}, BAD),
    Step("VolumeDriver.Create", {"Name": "v4", "Opts": {"no-such-option": "1"}}, BAD, "no-such-option"),
    Step("VolumeDriver.Create", {"Name": "v4", "Opts": {"backend": "bind", "source": "/etc"}}, BAD),
    Step("VolumeDriver.Create", {"Name": 5}, BAD),
    Step("VolumeDriver.Mount", {"Name": "v1", "ID": ""}, BAD),
    Step("VolumeDriver.Mount", {"Name": "v1"}, BAD),
    Step("VolumeDriver.Remove", {}, BAD),
)
