"""The lab as fixtures: one host with an engine for each worker, clean for each test, gone at the end."""

import os
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration.lab import machine
from integration.lab.differences import difference
from integration.lab.engine import ENGINES
from integration.lab.etcd import EtcdCluster, etcd_cluster
from integration.lab.fleet import started
from integration.lab.host import Host, drivers
from integration.lab.lab import Lab
from integration.lab.wirehost import WireHost

SESSION = "PYLAB_SESSION"  # tells xdist's workers the folder that the session's end looks at
BEFORE = pytest.StashKey[machine.Machine]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("integration")
    group.addoption("--engine", default="docker-20.10", choices=sorted(ENGINES), help="the engine to test against")
    group.addoption("--network-driver", default="pynet", help="bridge tries the harness without pynet")
    group.addoption("--firewall", default="auto", choices=["auto", "iptables", "nftables"], help="pynet's backend")
    group.addoption("--iptables", default="nft", choices=["nft", "legacy"], help="what iptables is on the host")
    group.addoption(
        "--confined", action="store_true", help="plugins with the rights that their systemd units leave them"
    )
    group.addoption(
        "--form", default="legacy", choices=["legacy", "managed"], help="managed: as `make plugins` built them"
    )
    group.addoption("--long", action="store_true", help="also the tests marked `long`, which `make test` leaves out")
    group.addoption("--volume-driver", default="pyvol", help="local tries the harness without pyvol")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What does not apply to this engine and form is deselected; a skip would be a failure."""
    engine, form = config.getoption("--engine"), config.getoption("--form")
    short = not config.getoption("--long")
    apart = [
        item
        for item in items
        if difference(f"{item.path.name}::{item.name}", engine, form) or (short and item.get_closest_marker("long"))
    ]
    items[:] = [item for item in items if item not in apart]
    config.hook.pytest_deselected(items=apart)


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
    names = map(option, ("--network-driver", "--volume-driver", "--firewall"))
    others = {name: option(f"--{name}") for name in ("confined", "iptables", "form")}
    lab = Lab(Path(os.environ[SESSION]) / worker_id, ENGINES[option("--engine")], drivers(*names, **others))
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


@pytest.fixture
def apart(lab: Lab) -> Iterator[Host]:
    """A host of the test's own, whose plugins it may spoil; its engine leaves containers alive when it ends."""
    with lab.own_host() as host:
        host.engine.argv.append("--live-restore")
        host.ensure_running()
        host.import_image()
        yield host


@pytest.fixture(scope="module")
def etcd(lab: Lab) -> Iterator[EtcdCluster]:
    """Three members of an etcd that run."""
    with etcd_cluster(lab) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def fleet(lab: Lab, etcd: EtcdCluster) -> Iterator[tuple[Host, ...]]:
    """Three running hosts of one cluster."""
    hosts = started(lab, 3, replace(lab.drivers, cluster=etcd.url))
    yield hosts
    for host in hosts:
        lab.discard(host)
