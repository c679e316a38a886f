"""`pynet conform` and `pyvol conform` on a real engine, with Docker's own drivers beside ours."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from integration.lab import machine
from integration.lab.engine import ENGINES
from integration.lab.host import Drivers, Host
from integration.lab.wire import Wire

DRIVERS = ("bridge", "pynet")
# One that passes, one that the administrator forbids, and one for what Docker's own driver has not.
PASSED, FORBIDDEN, OURS = "arp-gateway-once", "publish-udp", "spoof-mac"
RULE = "table inet forbidden { chain c { type filter hook prerouting priority -400; udp dport 5353 drop; }; }"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    root = tmp_path_factory.mktemp("pylab-conform")
    wire = Wire(root / "conform" / "wire")
    try:
        host = Host("host", root / "conform" / "host", wire, ENGINES["docker-28.5"], Drivers(firewall="nftables"))
        try:
            host.ensure_running()
            yield host
        finally:
            host.close()
    finally:
        wire.close()
    assert machine.processes_of(root) + machine.loops_below(root) == []


def test_drivers_side_by_side(host: Host, tmp_path: Path) -> None:
    xml, page = tmp_path / "junit.xml", tmp_path / "page.html"
    host.run("nft", "-f", "-", stdin=RULE)
    done = host.machine.try_run(
        *(sys.executable, "-m", "netplugin", "conform", "--json", "--junit", str(xml), "--html", str(page)),
        *(word for driver in DRIVERS for word in ("--driver", driver)),
        *(word for case in (PASSED, FORBIDDEN, OURS) for word in ("--case", case)),
        env={"PATH": host.kind.path()},
        timeout_s=180,
    )
    assert (done.returncode, done.stderr) == (1, "")
    found = {(each["driver"], each["case"], each["version"]): each for each in json.loads(done.stdout)}
    expected = {PASSED: ("passed", "passed"), FORBIDDEN: ("failed", "failed"), OURS: ("not run", "passed")}
    assert {key: each["outcome"] for key, each in found.items()} == {
        (driver, case, version): outcome
        for case, outcomes in expected.items()
        for driver, outcome in zip(DRIVERS, outcomes, strict=True)
        for version in ((4,) if case == PASSED else (4, 6))
    }
    assert found["bridge", OURS, 4]["why"] == "bridge has no anti_spoof"
    assert found["bridge", FORBIDDEN, 6]["why"] == "the packet did not come within 3 s"
    suites = ElementTree.fromstring(xml.read_bytes())
    told = [tuple(map(suite.get, ("name", "tests", "failures", "skipped"))) for suite in suites]
    assert told == [("bridge", "5", "2", "2"), ("pynet", "5", "2", "0")]
    assert "Engine 28.5" in page.read_text()
    assert host.docker("ps", "-aq") == ""
    assert host.docker("network", "ls", "-q", "--filter", "type=custom") == ""
    assert host.docker("images", "-q") == ""
    assert "conform0" not in host.run("ip", "-o", "link")


def test_volume_drivers_side_by_side(host: Host) -> None:
    cases = ("create-inspect", "cp-stopped", "random-all", "size-kept", "keep-engine")
    done = host.machine.try_run(
        *(sys.executable, "-m", "volplugin", "conform", "--json", "--driver", "local", "--driver", "pyvol"),
        *(word for case in cases for word in ("--case", case)),
        env={"PATH": host.kind.path()},
        timeout_s=180,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = {(each["driver"], each["case"]): (each["outcome"], each["why"]) for each in json.loads(done.stdout)}
    restart = ("not run", "nobody said by --restart how the engine starts again")
    assert found.pop(("local", "size-kept"))[0] == "not run"
    assert found == {
        (driver, case): restart if case == "keep-engine" else ("passed", "")
        for driver in ("local", "pyvol")
        for case in cases
        if (driver, case) != ("local", "size-kept")
    }
    assert host.docker("ps", "-aq") + host.docker("volume", "ls", "-q") + host.docker("images", "-q") == ""


def test_a_volume_driver_that_fails_is_told(host: Host) -> None:
    """Its size is asked for by an option that means something else: it is as large as without it."""
    done = host.machine.try_run(
        *(sys.executable, "-m", "volplugin", "conform", "--json", "--driver", "pyvol", "--case", "size-kept"),
        *("--size-option", "label.size"),
        env={"PATH": host.kind.path()},
        timeout_s=120,
    )
    assert done.returncode == 1
    [verdict] = json.loads(done.stdout)
    assert (verdict["outcome"], verdict["why"]) == ("failed", "96 MiB were written to a volume of 48 MiB")
