"""Both plugins as managed plugins: installed in the engine, which starts, stops and restarts them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.wirehost import WireHost

BUILT = Path(os.environ.get("PYLAB_PLUGINS", Path(__file__).parents[1] / "build" / "plugins"))


@pytest.fixture
def managing(lab: Lab) -> Iterator[Host]:
    """A host without legacy plugins, on which both managed ones are enabled."""
    host = lab.bare_host()
    try:
        host.engine.start(timeout_s=60, attempts=3)
        host.import_image()
        for name in ("pynet", "pyvol"):
            state = host.root / f"state-{name}"
            state.mkdir()
            host.docker("plugin", "create", name, str(BUILT / name), timeout_s=180)
            host.docker("plugin", "set", name, f"state.source={state}")
            host.docker("plugin", "enable", name)
        yield host
    except BaseException as error:
        error.add_note(host.logs())
        raise
    finally:
        lab.discard(host)


def test_the_main_job(managing: Host, outside: WireHost) -> None:
    host = managing
    host.docker("network", "create", "-d", "pynet:latest", "--subnet", "10.61.0.0/24", "n1")
    host.docker("volume", "create", "-d", "pyvol:latest", "-o", "size=64M", "v1")
    host.web("ann", "--network", "n1", "-p", "8080:80", "-v", "v1:/data")
    assert outside.ask("http", host.address, 8080) == outside.address
    assert host.once("ping -c1 -W3 ann >/dev/null && wget -qO- http://ann/", "--network", "n1") == "lab"
    host.sh("ann", "echo kept >/data/file")
    assert host.sh("ann", "df -k /data").split()[-5:-4] == ["65536"]

    # Killed plugins are started again by the engine, and neither traffic nor writes stop.
    for program in ("pynet", "pyvol"):
        host.run("sh", "-c", f"kill -9 $(grep -la /usr/bin/[p]{program[1:]} /proc/[0-9]*/cmdline | cut -d/ -f3)")
    assert outside.ask("http", host.address, 8080) == outside.address
    host.sh("ann", "echo again >>/data/file")
    wait_for("the plugins are back", lambda: host.docker("volume", "ls", "-qf", "driver=pyvol:latest") == "v1", 30)
    assert host.once("cat /data/file", "--network", "n1", "-v", "v1:/data") == "kept\nagain"

    host.docker("rm", "-f", "ann")
    host.docker("network", "rm", "n1")
    host.docker("volume", "rm", "v1")
    for name in ("pynet", "pyvol"):
        host.docker("plugin", "disable", name)
        host.docker("plugin", "rm", name)
