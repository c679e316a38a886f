"""A disk that is full: nothing half-made, nothing forgotten, and it goes on when there is room again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.machine import Machine
from tests.runtime.test_containers import NO_NETWORK, eventually


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "small")
    try:
        (made.root / "pyrun").mkdir()
        made.namespace.run("mount", "-t", "tmpfs", "-o", "size=14m", "tmpfs", str(made.root / "pyrun"))
        made.daemon.start()
        yield made
    finally:
        # A test that failed leaves no room for what `rm` has to write down.
        made.namespace.run("sh", "-c", f"rm -f {made.root}/pyrun/containers/*/upper/fill")
        made.close()


def test_a_full_disk_is_told_and_survived(small: Machine, machine: Machine) -> None:
    archive = str(machine.root / "lab.tar")
    small.docker("import", archive, "lab")
    for name in ("stays", "ends"):
        small.docker("run", "-d", "--name", name, *NO_NETWORK, "lab", "sleep", "99")
    small.try_docker("exec", "stays", "dd", "if=/dev/zero", "of=/fill", "bs=4096")
    for arguments, words in (
        (("import", archive, "more"), "are available"),
        (("cp", archive, "stays:/tmp/"), "No space"),
    ):
        done = small.try_docker(*arguments)
        assert done.returncode == 1
        assert words in done.stderr
    assert small.docker("exec", "stays", "echo", "still") == "still"
    pid = json.loads(small.docker("inspect", "-f", "{{json .State.Pid}}", "ends"))
    small.namespace.run("kill", "-9", str(pid))
    small.docker("exec", "stays", "rm", "/fill")
    eventually(lambda: small.docker("inspect", "-f", "{{.State.Status}}", "ends") == "exited")
    assert small.docker("run", "--rm", *NO_NETWORK, "lab", "echo", "again") == "again"
    assert small.docker("ps", "-a", "--format", "{{.Names}}").split() == ["ends", "stays"]
