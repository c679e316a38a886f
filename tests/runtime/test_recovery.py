"""The daemon dies by SIGKILL and starts again: containers neither notice nor are forgotten."""

from contextlib import closing
from pathlib import Path

import pytest

from runtime.state import State
from tests.runtime.machine import SOCKET, Machine
from tests.runtime.test_containers import NO_NETWORK, eventually
from tests.runtime.test_containers import state as state_of

SOON = ("--stop-timeout", "1")


def test_containers_outlive_the_daemon(machine: Machine) -> None:
    counting = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done"
    machine.docker("run", "-d", "--name", "count", *NO_NETWORK, "lab", "sh", "-c", counting)
    machine.docker(
        "run",
        "-d",
        "--name",
        "ends",
        *NO_NETWORK,
        "lab",
        "sh",
        "-c",
        "while [ ! -e /end ]; do sleep 0.05; done; exit 9",
    )
    machine.docker("run", "-d", "--name", "again", "--restart", "always", *NO_NETWORK, "lab", "sleep", "99")
    machine.docker("run", "-d", "--name", "always", "--restart", "always", *NO_NETWORK, "lab", "sleep", "99")
    machine.docker("run", "-d", "--name", "unless", "--restart", "unless-stopped", *NO_NETWORK, "lab", "sleep", "99")
    machine.docker("stop", "-t", "0", "always", "unless")
    before = {name: state_of(machine, name) for name in ("count", "ends", "again")}
    rootfs = machine.docker("inspect", "-f", "{{.GraphDriver.Data.MergedDir}}", "ends")
    machine.daemon.kill()
    machine.namespace.path(rootfs + "/end").touch()
    machine.namespace.run("kill", "-9", str(before["again"]["Pid"]))
    machine.daemon.start()
    assert state_of(machine, "count") == before["count"]
    eventually(lambda: state_of(machine, "ends")["Status"] == "exited")
    assert state_of(machine, "ends")["ExitCode"] == 9
    eventually(lambda: state_of(machine, "again")["Running"] is True)
    assert state_of(machine, "again")["Pid"] != before["again"]["Pid"]
    eventually(lambda: state_of(machine, "always")["Running"] is True)
    assert state_of(machine, "unless")["Status"] == "exited"
    machine.docker("stop", "-t", "0", "count")
    numbers = [int(line) for line in machine.docker("logs", "count").split()]
    assert numbers == list(range(1, len(numbers) + 1))
    machine.docker("rm", "-f", "count", "ends", "again", "always", "unless")
    leaves_nothing(machine)


def test_without_live_restore_containers_end_and_policies_start_them_again(machine: Machine) -> None:
    machine.daemon.stop()
    daemon = machine.another("--no-live-restore")
    daemon.start()
    policies = {"always": "always", "unless": "unless-stopped", "stopped": "unless-stopped", "never": "no"}
    for name, policy in policies.items():
        machine.docker("run", "-d", "--name", name, "--restart", policy, *NO_NETWORK, *SOON, "lab", "sleep", "99")
    machine.docker("run", "-d", "--name", "gone", "--rm", *NO_NETWORK, *SOON, "lab", "sleep", "99")
    machine.docker("stop", "-t", "0", "stopped")
    command = ("docker", "-H", f"unix://{SOCKET}", "logs", "-f", "never")
    with (machine.root / "followed").open("wb") as output:
        follower = machine.namespace.spawn(*command, output=output)
    daemon.stop()
    follower.wait(20)
    assert machine.namespace.run("ps", "-eo", "args").count("conmon") == 0
    assert "merged" not in machine.namespace.run("cat", "/proc/mounts")
    machine.daemon.start()
    eventually(lambda: state_of(machine, "always")["Running"] and state_of(machine, "unless")["Running"])
    assert [state_of(machine, name)["Status"] for name in ("stopped", "never")] == ["exited", "exited"]
    assert machine.docker("ps", "-aq", "--filter", "name=gone") == ""
    machine.docker("rm", "-f", *policies)
    leaves_nothing(machine)


def leaves_nothing(machine: Machine, *, folders: bool = True) -> None:
    assert machine.namespace.run("ps", "-eo", "args").count("conmon") == 0
    assert "merged" not in machine.namespace.run("cat", "/proc/mounts")
    assert not list(machine.namespace.path("/run/pyrun/netns").glob("*"))
    if folders:
        assert not list(machine.namespace.path("/run/pyrun/containers").glob("*"))
        assert not list(Path(machine.root / "pyrun" / "containers").glob("*"))


@pytest.mark.parametrize("status", ["creating", "removing"])
def test_what_was_half_made_or_half_removed_is_gone(machine: Machine, status: str) -> None:
    key = machine.docker("create", "--name", "half", *NO_NETWORK, "lab", "true")
    machine.daemon.kill()
    with closing(State(machine.root / "pyrun" / "pyrun.db")) as state:
        record = state.get("container", key)
        assert record is not None
        state.put("container", key, {**record, "status": status})
    machine.daemon.start()
    assert machine.docker("ps", "-aq") == ""
    machine.docker("run", "--rm", "--name", "half", *NO_NETWORK, "lab", "true")
    leaves_nothing(machine)


def test_a_start_that_the_daemon_did_not_live_to_tell_of_is_undone(machine: Machine) -> None:
    key = machine.docker("run", "-d", "--name", "half", *NO_NETWORK, "lab", "sleep", "99")
    machine.daemon.kill()
    with closing(State(machine.root / "pyrun" / "pyrun.db")) as state:
        record = state.get("container", key)
        assert record is not None
        state.put("container", key, {**record, "status": "created", "pid": 0})
    machine.daemon.start()
    assert state_of(machine, "half")["Running"] is False
    leaves_nothing(machine, folders=False)
    machine.docker("rm", "half")
    leaves_nothing(machine)


def test_a_lost_shim_ends_its_container(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "lost", *NO_NETWORK, "lab", "sleep", "99")
    [shim] = machine.namespace.run("pgrep", "-x", "conmon").split()
    machine.namespace.run("kill", "-9", shim)
    eventually(lambda: state_of(machine, "lost")["Status"] == "exited")
    assert state_of(machine, "lost")["ExitCode"] == 255
    assert machine.namespace.try_run("pgrep", "-f", "^sleep 99").returncode == 1
    machine.docker("rm", "lost")
    leaves_nothing(machine)
