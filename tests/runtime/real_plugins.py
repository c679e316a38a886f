"""The real pynet and pyvol beside pyrun, with a network and a volume."""

from collections.abc import Iterator

import pytest

from integration.lab import plugin
from tests.runtime.machine import Machine


@pytest.fixture
def plugins(machine: Machine) -> Iterator[None]:
    daemons = [plugin.daemon(name, machine.namespace, {}, confine=False) for name in ("pynet", "pyvol")]
    try:
        for daemon in daemons:
            daemon.start()
        machine.docker("network", "create", "-d", "pynet", "--subnet", "10.77.0.0/24", "front")
        machine.docker("volume", "create", "-d", "pyvol", "-o", "size=64M", "kept")
        yield
        machine.docker("volume", "rm", "kept")
        machine.docker("network", "rm", "front")
    finally:
        for daemon in daemons:
            daemon.kill()
