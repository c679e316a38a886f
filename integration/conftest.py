"""The lab as fixtures: one host with an engine for each worker, clean for each test, gone at the end."""

import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from integration.lab import machine
from integration.lab.engine import ENGINES
from integration.lab.host import Drivers, Host
from integration.lab.lab import Lab
from integration.lab.wirehost import WireHost

SESSION = "PYLAB_SESSION"  # tells xdist's workers the folder that the session's end looks at
BEFORE = pytest.StashKey[machine.Machine]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("integration")
    group.addoption("--engine", default="docker-20.10", choices=sorted(ENGINES), help="the engine to test against")
    group.addoption("--network-driver", default="pynet", help="bridge tries the harness without pynet")
    group.addoption("--firewall", default="auto", choices=["auto", "iptables", "nftables"], help="pynet's backend")
    group.addoption(
        "--confined", action="store_true", help="plugins with the rights that their systemd units leave them"
    )
    group.addoption("--managed", action="store_true", help="the managed plugins too, which `make plugins` has built")
    group.addoption("--volume-driver", default="pyvol", help="local tries the harness without pyvol")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Managed plugins take minutes to build: they are tried when asked for."""
    return True if collection_path.name == "test_managed.py" and not config.getoption("--managed") else None


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_sessionstart(session: pytest.Session) -> None:
    if not is_worker(session.config):
        os.environ[SESSION] = tempfile.mkdtemp(prefix="pylab-")
        session.config.stash[BEFORE] = machine.look(Path(os.environ[SESSION]))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if is_worker(session.config) or BEFORE not in session.config.stash:
        return
    root = Path(os.environ.pop(SESSION))
    left = machine.left_behind(session.config.stash[BEFORE], root)
    machine.detach_loops(root)
    machine.remove_cgroups(f"/{root.name}-*")
    machine.remove_folder(root)
    if left:
        print("\nleft behind on this machine:", *left, sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Host):
                report.sections.append(("daemons", value.logs()))
    return report


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, worker_id: str) -> Iterator[Lab]:
    """The worker's own wire, on which hosts are made as tests want them."""
    option = request.config.getoption
    drivers = Drivers(*map(option, ("--network-driver", "--volume-driver", "--firewall", "--confined")))
    lab = Lab(Path(os.environ[SESSION]) / worker_id, ENGINES[option("--engine")], drivers)
    yield lab
    lab.close()


@pytest.fixture(scope="session")
def outside(lab: Lab) -> WireHost:
    """A machine without an engine on the same wire."""
    return lab.wire_host("outside")


@pytest.fixture
def host(lab: Lab) -> Iterator[Host]:
    """A running host without containers, networks or volumes, that must be just so again after the test."""
    host = lab.host()
    yield host
    try:
        host.clean()
        left = host.changes_since(host.before)
    except BaseException as error:
        error.add_note(host.logs())
        lab.discard(host)
        raise
    if left:
        logs = host.logs()
        lab.discard(host)
        pytest.fail("the test left on its host:\n" + "\n".join(left) + "\n" + logs, pytrace=False)
