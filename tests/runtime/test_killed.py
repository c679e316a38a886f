"""kill -9 of pyrun at random moments of a script: containers go on, all is there that was promised, and nothing else.

Ten kills here, a hundred by `make chaos`. CHAOS_SEED repeats the choices, though not the moments at which the kernel
takes its turns.
"""

import os
import random
import secrets
import time

import pytest

from tests.runtime.machine import SOCKET, Machine
from tests.runtime.real_plugins import plugins
from tests.runtime.test_containers import eventually
from tests.runtime.test_recovery import leaves_nothing

__all__ = ["plugins"]
KILLS = int(os.environ.get("CHAOS_KILLS", "10"))
SCRIPTS = (
    "docker run -d --name n --network front -v kept:/d lab sleep 99; docker stop -t 0 n; docker start n",
    "docker run -d --name n -p 8081:80 --network front lab sleep 99; docker exec n true; docker restart -t 0 n",
    "docker network create -d pynet own; docker run -d --name n --net own lab sleep 99; docker network connect front n",
    "docker run --rm --name n --network front -v fresh:/seed lab true; docker run -d --name n -v fresh:/d lab sleep 99",
    "docker create --name n --network front -v kept:/d lab sleep 99; docker start n; docker pause n; docker unpause n",
)
CLEAN = "docker rm -fv n; docker network rm own; docker volume rm -f fresh; true"
COUNT = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.1; done"


def inventory(machine: Machine) -> dict[str, list[str]]:
    """What containers have of the machine, sorted."""
    run = machine.namespace.run
    # Others' cgroups come and go meanwhile, which a walk passes over and a glob does not.
    cgroups = {name for path, names, _ in os.walk("/sys/fs/cgroup") if path.endswith(machine.cgroup) for name in names}
    return {
        "mounts": sorted(line.split()[1] for line in run("cat", "/proc/mounts").splitlines()),
        "links": sorted(line.split()[1] for line in run("ip", "-o", "link").splitlines()),
        "namespaces": sorted(run("sh", "-c", "ls /run/pyrun/netns 2>/dev/null || true").split()),
        "programs": sorted(name for name in run("ps", "-eo", "comm=").split() if name in ("conmon", "runc", "httpd")),
        "folders": sorted(run("ls", "/run/pyrun/containers", f"{machine.root}/pyrun/containers").split()),
        "cgroups": sorted(cgroups),
    }


def settled(machine: Machine, wanted: dict[str, list[str]]) -> None:
    """The machine has what is wanted, within some seconds, or the difference is told."""
    deadline = time.monotonic() + 20
    while (found := inventory(machine)) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found == wanted


@pytest.mark.usefixtures("plugins")
@pytest.mark.timeout(120 + 30 * KILLS)
def test_whatever_the_moment_a_kill_leaves_nothing(machine: Machine) -> None:
    seed = os.environ.get("CHAOS_SEED") or secrets.token_hex(4)
    print(f"CHAOS_SEED={seed} CHAOS_KILLS={KILLS}")
    dice = random.Random(seed)
    web = ("httpd", "-f", "-p", "80", "-h", "/www")
    machine.docker("run", "-d", "--name", "steady", "--network", "front", "-p", "8080:80", "-v", "kept:/k", "lab", *web)
    machine.docker("run", "-d", "--name", "count", "--network", "none", "lab", "sh", "-c", COUNT)
    # The default network is made when it is first used, and stays.
    machine.docker("run", "--rm", "lab", "true")
    began = machine.docker("inspect", "-f", "{{.State.StartedAt}} {{.State.Pid}}", "steady", "count")
    before = inventory(machine)
    for _ in range(KILLS):
        script = dice.choice(SCRIPTS)
        runs = machine.namespace.spawn("sh", "-c", script, output=-3, env={"DOCKER_HOST": f"unix://{SOCKET}"})
        time.sleep(dice.uniform(0.0, 2.0))
        machine.daemon.kill()
        assert machine.namespace.run("curl", "-s", "http://127.0.0.1:8080/") == "lab\n", "it goes on meanwhile"
        runs.wait(timeout=30)
        machine.daemon.start()
        # What is known runs or does not, as it is said.
        for key in machine.docker("ps", "-q", "--filter", "status=running").split():
            machine.docker("exec", key, "true")
        machine.namespace.run("sh", "-c", CLEAN, env={"DOCKER_HOST": f"unix://{SOCKET}"})
        assert set(machine.docker("ps", "-a", "--format", "{{.Names}}").split()) == {"steady", "count"}, script
        settled(machine, before)
    assert machine.docker("inspect", "-f", "{{.State.StartedAt}} {{.State.Pid}}", "steady", "count") == began
    numbers = [int(line) for line in machine.docker("logs", "count").split()]
    assert numbers == list(range(1, len(numbers) + 1)), "its log is whole"
    assert machine.docker("network", "inspect", "-f", "{{len .Containers}}", "front") == "1"
    assert machine.docker("run", "--rm", "--network", "front", "lab", "wget", "-qO-", "http://steady/") == "lab"
    machine.docker("rm", "-f", "steady", "count")
    eventually(lambda: "pyvol" not in machine.namespace.run("cat", "/proc/mounts"))
    leaves_nothing(machine)
