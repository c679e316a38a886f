"""A service of a swarm has a volume of pyvol: made by its first task, there for the next one."""

from collections.abc import Iterator

import pytest

from integration.lab import image
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.lab import Lab


@pytest.fixture
def manager(lab: Lab) -> Iterator[Host]:
    """A host of the test's own that is a swarm of one node."""
    with lab.own_host() as host:
        host.ensure_running()
        host.import_image()
        host.docker("swarm", "init", "--advertise-addr", host.address)
        yield host


def tasks(host: Host) -> list[str]:
    """The running containers of the service."""
    return host.docker("ps", "-q", "--filter", "label=com.docker.swarm.service.name=notes").split()


@pytest.mark.long
def test_a_service_keeps_its_volume(manager: Host) -> None:
    driver = manager.drivers.volume
    mount = f"type=volume,source=v1,target=/data,volume-driver={driver},volume-opt=size=64M"
    script = "echo started >>/data/starts; exec sleep 1000000"
    # The swarm's own networks are not what is asked about, and no registry tells the image's digest.
    options = ("--detach", "--no-resolve-image", "--name", "notes", "--stop-grace-period", "1s", "--mount", mount)
    manager.docker("service", "create", *options, image.NAME, "sh", "-c", script)
    [first] = wait_for("a task runs", lambda: tasks(manager), 60)
    assert "65536" in manager.sh(first, "df -k /data")
    assert manager.docker("volume", "inspect", "--format", "{{.Driver}}", "v1") == driver

    manager.docker("rm", "-f", first)  # the swarm starts another one
    [second] = wait_for("another task runs", lambda: [task for task in tasks(manager) if task != first], 60)
    wait_for("it has started twice", lambda: manager.sh(second, "cat /data/starts").split() == ["started"] * 2)

    manager.docker("service", "scale", "--detach", "notes=2")
    wait_for("two tasks share it", lambda: len(tasks(manager)) == 2, 60)
    wait_for("both wrote", lambda: manager.sh(second, "cat /data/starts").split() == ["started"] * 3)
    manager.docker("service", "rm", "notes")
    wait_for("no task runs", lambda: not tasks(manager), 60)
    wait_for(
        "the volume is free", lambda: manager.machine.try_run(manager.cli, "volume", "rm", "v1").returncode == 0, 60
    )
