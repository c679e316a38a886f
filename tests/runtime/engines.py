"""A dockerd 28.5 and a pyrun side by side, each on a host of its own with pynet, pyvol and the lab's image."""

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from integration.lab import machine
from integration.lab.engine import ENGINES
from integration.lab.host import Drivers, Host
from integration.lab.wire import Wire

DOCKER, PYRUN = "docker-28.5", "pyrun"
CLI = Path(os.environ.get("PYLAB_ENGINES", "/opt/engines")) / "cli-28.5/usr/bin/docker"


@contextmanager
def side_by_side() -> Iterator[tuple[Host, Host]]:
    """Inside the block both answer; after it nothing is left of them."""
    root = Path(tempfile.mkdtemp(prefix="pylab-"))
    with ExitStack() as stack:
        stack.callback(machine.remove_folder, root)
        wire = Wire(root / "same" / "wire")
        stack.callback(wire.close)
        hosts = []
        for name in (DOCKER, PYRUN):
            hosts.append(Host(name[:3], root / "same" / name[:3], wire, ENGINES[name], Drivers()))
            stack.callback(hosts[-1].close)
            hosts[-1].cli = str(CLI)
        with ThreadPoolExecutor(2) as pool:
            [*pool.map(Host.start, hosts)]
        yield hosts[0], hosts[1]
    assert machine.processes_of(root) + machine.loops_below(root) == []
