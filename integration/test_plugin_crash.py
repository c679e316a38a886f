"""A plugin that dies takes nothing along, and knows everything when it is back."""

import contextlib
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from integration.lab import plugin, snapshot
from integration.lab.daemon import Daemon
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.namespace import children
from integration.lab.wirehost import WireHost

NONE = ("--network", "none")
LOST = (
    "iptables -F; iptables -t nat -F",
    # Of the two backends only one is in use.
    "nft delete table ip pynet; iptables-save -t nat | grep -v -- --to-destination | iptables-restore -T nat",
    "ip link del {bridge}",
)
WHAT_IS_LOST = ("everything of iptables", "published ports", "bridge")


@pytest.fixture
def pynet(host: Host) -> Daemon:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    return host.plugins["pynet"]


@pytest.fixture
def pyvol(host: Host) -> Daemon:
    host.docker("volume", "create", "-d", host.drivers.volume, "-o", "size=64M", "v1")
    return host.plugins["pyvol"]


def grows(host: Host, container: str, file: str) -> bool:
    """True once the file in the container has become longer."""
    size = int(host.sh(container, f"wc -c <{file}"))
    return wait_for(f"{file} grows", lambda: int(host.sh(container, f"wc -c <{file}")) > size)


@pytest.mark.everywhere
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_traffic_goes_on_without_pynet(host: Host, pynet: Daemon, outside: WireHost, how: str) -> None:
    host.web("ann", "--network", "n1", "-p", "8080:80")
    before = snapshot.take(host.machine)
    if how == "kill":
        pynet.kill()
    else:
        assert pynet.stop() == 0
    assert before.firewall == snapshot.take(host.machine).firewall
    assert outside.ask("http", host.address, 8080) == outside.address
    assert host.ask("http", "127.0.0.1", 8080, "/") == "lab"
    with outside.answering("tcp", 9000):
        assert host.ask("tcp", outside.address, 9000, entering=host.network_of("ann")) == host.address

    pynet.start()
    assert host.changes_since(before) == []
    assert outside.ask("http", host.address, 8080) == outside.address
    assert host.once("wget -qO- http://ann/", "--network", "n1") == "lab"
    assert "8080" in host.docker_error("run", "--rm", "--network", "n1", "-p", "8080:80", "lab", "true")
    host.docker("restart", "-t", "0", "ann")
    assert outside.ask("http", host.address, 8080) == outside.address


@pytest.mark.everywhere
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_writes_go_on_without_pyvol(host: Host, pyvol: Daemon, how: str) -> None:
    # A shell that starts no programs: those would come and go in the snapshots.
    writing = "mkfifo /tmp/never; exec 3<>/tmp/never; while :; do echo x >>/data/log; read -t 1 line <&3; done"
    host.docker("run", "-d", "--name", "ann", *NONE, "-v", "v1:/data", "lab", "sh", "-c", f"touch /data/log; {writing}")
    before = snapshot.take(host.machine)
    if how == "kill":
        pyvol.kill()
    else:
        assert pyvol.stop() == 0
    assert grows(host, "ann", "/data/log")

    pyvol.start()
    assert host.changes_since(before) == []
    assert grows(host, "ann", "/data/log")
    host.once("test -s /data/log && echo new >/data/other", *NONE, "-v", "v1:/data")
    assert host.sh("ann", "cat /data/other") == "new"
    host.docker("rm", "-f", "ann")
    assert host.once("cat /data/other", *NONE, "-v", "v1:/data") == "new"


def test_a_container_is_removed_while_its_plugins_are_away(host: Host, pynet: Daemon, pyvol: Daemon) -> None:
    host.web("ann", "--network", "n1", "-p", "8080:80", "-v", "v1:/data")
    pynet.kill()
    pyvol.kill()
    with ThreadPoolExecutor() as pool:
        removing = pool.submit(host.docker, "rm", "-f", "ann", timeout_s=100)
        # The engine repeats its calls for 15 seconds: the first ones must have failed before the plugins are back.
        wait_for("the process of ann is gone", lambda: "httpd" not in snapshot.take(host.machine).programs)
        pynet.start()
        pyvol.start()
        removing.result()
    host.web("bob", "--network", "n1", "-p", "8080:80", "-v", "v1:/data")
    assert host.ask("http", host.address, 8080, "/") == "lab"


def test_killed_in_the_middle_of_many_requests(host: Host, pynet: Daemon, pyvol: Daemon) -> None:
    options = ("--network", "n1", "-v", "v1:/data")
    names = [f"c{number}" for number in range(6)]
    with ThreadPoolExecutor(len(names)) as pool:
        starting = [pool.submit(host.idle, name, *options) for name in names]
        wait_for("the first container", lambda: host.docker("ps", "-q"))
        pynet.kill()
        pyvol.kill()
        pynet.start()
        pyvol.start()
        failed = [str(error) for job in starting if (error := job.exception()) is not None]
    # A request that was under way may fail; what must not happen is that it leaves something behind or blocks others.
    assert len(failed) < len(names), failed
    host.docker("rm", "-f", *host.docker("ps", "-aq").split())
    host.idle("after", *options)
    host.sh("after", "echo works >/data/file && ping -c1 -W3 10.61.0.1")


@contextlib.contextmanager
def broken(host: Host, lost: str) -> Iterator[None]:
    """Inside the block something is lost; after it the engine's own rules are there again, as they are not ours."""
    bridge = "pn-" + host.docker("network", "inspect", "--format", "{{.Id}}", "n1")[:8]
    rules = host.run("iptables-save")
    try:
        host.run("sh", "-c", lost.format(bridge=bridge))
        yield
    finally:
        host.run("iptables-restore", stdin=rules)


def is_right(host: Host, outside: WireHost) -> bool:
    """True when the published port answers, and the network takes a new container."""
    assert outside.ask("http", host.address, 8080) == outside.address
    assert host.once("wget -qO- http://ann/", "--network", "n1") == "lab"
    return True


@pytest.mark.parametrize("lost", LOST, ids=WHAT_IS_LOST)
def test_a_start_repairs_what_somebody_broke(host: Host, pynet: Daemon, outside: WireHost, lost: str) -> None:
    """A deleted bridge leaves its ports without a master: both come back."""
    host.web("ann", "--network", "n1", "-p", "8080:80")
    pynet.kill()
    with broken(host, lost):
        with pytest.raises(AssertionError):
            outside.ask("http", host.address, 8080)
        pynet.start()
        assert is_right(host, outside)


@pytest.mark.parametrize("lost", LOST, ids=WHAT_IS_LOST)
def test_sighup_repairs_what_somebody_broke(host: Host, pynet: Daemon, outside: WireHost, lost: str) -> None:
    host.web("ann", "--network", "n1", "-p", "8080:80")
    with broken(host, lost):
        pynet.signal(signal.SIGHUP)
        wait_for("the network is repaired", lambda: is_right(host, outside), 15)


@pytest.mark.parametrize("name", ["pynet", "pyvol"])
def test_a_worker_that_dies_is_replaced(host: Host, pynet: Daemon, pyvol: Daemon, name: str) -> None:
    plugin = {"pynet": pynet, "pyvol": pyvol}[name]
    for worker in children(plugin.pid):
        os.kill(worker, signal.SIGKILL)
    wait_for(f"{name} answers", plugin.answers)
    assert host.once("echo works >/data/file; cat /data/file", "--network", "n1", "-v", "v1:/data") == "works"


def test_the_record_of_all_volumes_is_there_after_a_crash(host: Host, pyvol: Daemon) -> None:
    host.docker("volume", "create", "-d", host.drivers.volume, "-o", "size=32M", "v2")
    host.once("echo kept >/data/file", *NONE, "-v", "v2:/data")
    pyvol.kill()
    pyvol.start()
    assert sorted(host.docker("volume", "ls", "-q").split()) == ["v1", "v2"]
    assert host.once("cat /data/file", *NONE, "-v", "v2:/data") == "kept"


def test_without_its_records_it_takes_no_containers_network_away_unasked(host: Host, pynet: Daemon) -> None:
    host.web("ann", "--network", "n1")
    address = host.address_of("ann", "n1")
    pynet.stop()
    other = plugin.daemon("pynet", host.machine, {"PATH": host.kind.path()}, confine=False)
    other.argv[-1] = f"{host.root}/empty"
    done = host.machine.try_run(*other.argv)
    assert done.returncode == 1
    assert f"cannot begin with no records in {host.root}/empty" in done.stderr
    assert not (host.root / "empty" / "pynet.db").exists()
    assert host.ask("http", address, 80, "/") == "lab"
    other.argv.append("--start-over")
    other.start()
    links = host.run("ip", "-o", "link", "show", "type", "veth").splitlines()
    assert other.stop() == 0
    assert [link for link in links if ": eth0@" not in link] == []
    pynet.start()
