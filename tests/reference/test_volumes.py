"""pyvol against the simplest VolumeDriver that could be, step by step, on a real kernel; restarts are kill -9.

MODEL_EXAMPLES says how many histories; `make chaos` has more.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.reference.step import Step
from tests.reference.volumes import CALLERS, NAMES, SIZES, WRONG, Volumes
from tests.volume.conftest import attached_below, mounted_below
from tests.volume.serving import Service

EXAMPLES, STEPS = int(os.environ.get("MODEL_EXAMPLES", "3")), 20
# A start costs as much as twenty steps.
BETWEEN_RESTARTS = 10

names, callers = st.sampled_from(NAMES), st.sampled_from(CALLERS)
# A failure is told as it was found: to make it smaller takes hundreds of histories on a real kernel.
HISTORIES = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, phases=[Phase.generate])


@pytest.mark.timeout(200 + 60 * EXAMPLES)
@pytest.mark.usefixtures("mount_namespace")
def test_as_the_reference_says(tmp_path: Path) -> None:
    service = Service(tmp_path, "--reconcile-every", "3600")

    class Driver(RuleBasedStateMachine):
        """One pyvol that is asked by one engine; what is left after one history would be noticed in the next."""

        def __init__(self) -> None:
            super().__init__()
            self.model = Volumes(service.state_dir)
            self.taken = 0

        def take(self, step: Step) -> None:
            self.taken += 1
            step.take(service.ask)

        @rule(name=names, size=st.sampled_from(SIZES))
        def create(self, name: str, size: str) -> None:
            self.take(self.model.create(name, size))

        @rule(name=names, caller=callers, verb=st.sampled_from(["mount", "mount", "unmount"]))
        def mount_or_unmount(self, name: str, caller: str, verb: str) -> None:
            self.take(getattr(self.model, verb)(name, caller))

        @precondition(lambda self: self.model.is_mounted())
        @rule(data=st.data())
        def unmount_what_is_mounted(self, data: st.DataObject) -> None:
            name = data.draw(st.sampled_from(self.model.is_mounted()))
            self.take(self.model.unmount(name, data.draw(st.sampled_from(sorted(self.model.volumes[name].callers)))))

        @precondition(lambda self: self.model.is_mounted())
        @rule(data=st.data(), content=st.text("abc", min_size=1, max_size=9))
        def write(self, data: st.DataObject, content: str) -> None:
            self.model.write(data.draw(st.sampled_from(self.model.is_mounted())), content)

        @rule(name=names, verb=st.sampled_from(["remove", "remove", "path", "get"]))
        def ask_for_one(self, name: str, verb: str) -> None:
            self.take(getattr(self.model, verb)(name))

        @rule(step=st.sampled_from(WRONG))
        def ask_what_is_wrong(self, step: Step) -> None:
            self.take(step)

        @precondition(lambda self: self.taken >= BETWEEN_RESTARTS and self.model.volumes)
        @rule()
        def restart(self) -> None:
            self.taken = 0
            service.kill()
            service.start()

        @invariant()
        def all_is_as_the_reference_says(self) -> None:
            self.model.list().take(service.ask)
            self.model.is_so()

        def teardown(self) -> None:
            self.model.end(service.ask)
            assert (attached_below(service.state_dir), mounted_below(service.state_dir)) == ([], [])
            assert [entry.name for entry in (service.state_dir / "volumes").rglob("*")] in ([], [".trash"])

    try:
        run_state_machine_as_test(Driver, settings=HISTORIES)
        assert "Traceback" not in service.log()
    finally:
        service.kill()
