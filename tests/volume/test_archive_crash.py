"""Death at every step of making a volume of an archive's image: on the fake kernel and the real store."""

from __future__ import annotations

from itertools import count

import pytest

from pluginkit.errors import BadRequest, Conflict, Exhausted, PluginError
from tests.crash.fake_kernel import Death
from tests.volume.machine import Machine
from volplugin.archive.wire import AdoptRequest, CheckRequest

ADOPT = AdoptRequest("v", {"size": "64M"}, "0" * 32)


@pytest.mark.parametrize("fatal", [True, False], ids=["death", "error"])
def test_it_is_there_or_never_was(machine: Machine, fatal: bool) -> None:
    struck = 0
    for step in count(1):
        machine.steps.arm(step, fatal=fatal)
        try:
            machine.archives.adopt(ADOPT)
        except Death:
            struck += 1
            machine.restart()
        except (PluginError, ExceptionGroup):
            struck += 1
            machine.driver.reconcile()
        else:
            if machine.steps.taken < step:
                break
        machine.steps.disarm()
        machine.is_settled()
        assert machine.names() in ([], ["v"])
        machine.remove("v")
    assert struck > 4
    machine.restart()
    machine.is_settled()
    assert machine.names() == ["v"]
    machine.mount("v", "c")


def test_what_cannot_become_a_volume(machine: Machine) -> None:
    machine.create("w", size="64M")
    for name, options, image, kind in (
        ("w", {}, "0" * 32, Conflict),
        ("v", {"backend": "bind", "source": "/srv"}, "0" * 32, BadRequest),
        ("v", {"from": "w"}, "0" * 32, BadRequest),
        ("../v", {}, "0" * 32, BadRequest),
        ("v", {"size": "64M"}, "../../w/image.ext4", BadRequest),
    ):
        with pytest.raises(kind):
            machine.archives.adopt(AdoptRequest(name, options, image))
    machine.disk_bytes = 128 << 20
    machine.archives.check(CheckRequest("v", {"size": "32M"}))
    with pytest.raises(Exhausted):
        machine.archives.check(CheckRequest("v", {"size": "65M"}))
    machine.is_settled()
    assert machine.names() == ["w"]
