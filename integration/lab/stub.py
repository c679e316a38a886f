"""Somebody else's plugin on a host: stub_driver.py as a program."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from integration.lab import stub_driver, unixhttp
from integration.lab.daemon import Daemon
from integration.lab.host import Host

SOCKET = "/run/docker/plugins/stub.sock"
NETWORK = "s1"


@contextlib.contextmanager
def stub_network(host: Host) -> Iterator[str]:
    """Inside the block the driver "stub" answers; yield the name of a network of it, 10.64.0.0/24.

    At its end no container may be in that network any more.
    """
    path = host.machine.path(SOCKET)
    plugin = Daemon(
        host.machine,
        "stub",
        [sys.executable, "-IS", str(Path(stub_driver.__file__)), SOCKET],
        answers=lambda: unixhttp.status(path, "POST", "/Plugin.Activate") == 200,
    )
    plugin.start()
    try:
        host.docker("network", "create", "-d", "stub", "--subnet", "10.64.0.0/24", NETWORK)
        yield NETWORK
        host.docker("network", "rm", NETWORK)
    finally:
        plugin.kill()
        host.run("rm", "-f", SOCKET)
