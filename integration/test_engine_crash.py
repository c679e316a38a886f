"""Engine and plugins die together, or the whole host does: containers with a restart policy come back as they were."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.wirehost import WireHost


@pytest.fixture
def service(host: Host) -> str:
    """A container that always restarts, with a fixed address, a published port and a volume that counts its starts."""
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    host.docker("volume", "create", "-d", host.drivers.volume, *host.drivers.sized, "v1")
    options = ("--restart", "always", "--stop-timeout", "1", "-v", "v1:/data")
    network = ("--network", "n1", "--ip", "10.61.0.20", "-p", "8080:80")
    script = "echo started >>/data/starts; exec httpd -f -h /www -p 80"
    host.docker("run", "-d", "--name", "service", *options, *network, "lab", "sh", "-c", script)
    return "service"


def is_back(host: Host, outside: WireHost, starts: int) -> bool:
    """True when the service has started that often and answers as it did."""
    assert host.sh("service", "cat /data/starts").count("started") == starts
    assert outside.ask("http", host.address, 8080) == outside.address
    assert host.address_of("service", "n1") == "10.61.0.20"
    assert host.ask("http", "127.0.0.1", 8080, "/") == "lab"
    assert host.once("wget -qO- http://service/", "--network", "n1") == "lab"
    assert "/dev/loop" in host.sh("service", "df /data")
    return True


def wait_until_back(host: Host, outside: WireHost, starts: int) -> None:
    wait_for("the service is back", lambda: is_back(host, outside, starts), timeout_s=60, every_s=0.3)


def plugins_first(host: Host) -> None:
    host.ensure_running()


def engine_first(host: Host) -> None:
    """The engine asks for its volumes while it starts, so the plugins come when it is already on its way."""
    with ThreadPoolExecutor() as pool:
        engine = pool.submit(host.engine.start, 60, 3)
        wait_for("the engine runs", host.engine.runs)
        for plugin in host.plugins.values():
            plugin.start()
        engine.result()


@pytest.mark.everywhere
@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("start", [plugins_first, engine_first])
def test_all_are_killed_at_once(host: Host, outside: WireHost, start: Callable[[Host], None]) -> None:
    host.crash()
    assert outside.ask("http", host.address, 8080) == outside.address, "containers live on without engine and plugins"
    start(host)
    wait_until_back(host, outside, starts=2)


@pytest.mark.usefixtures("service")
def test_only_the_engine_is_killed(host: Host, outside: WireHost) -> None:
    host.engine.kill()
    host.ensure_running()
    wait_until_back(host, outside, starts=2)
    host.docker("restart", "-t", "0", "service")
    wait_until_back(host, outside, starts=3)


@pytest.mark.everywhere
@pytest.mark.usefixtures("service")
def test_an_orderly_restart_of_the_engine(host: Host, outside: WireHost) -> None:
    host.engine.stop()
    host.ensure_running()
    wait_until_back(host, outside, starts=2)


@pytest.mark.usefixtures("service")
def test_killed_again_and_again(host: Host, outside: WireHost) -> None:
    for round_number in range(2, 4):
        host.crash()
        host.ensure_running()
        wait_until_back(host, outside, starts=round_number)


@pytest.mark.parametrize("plugins_too", [True, False])
def test_what_a_container_had_that_died_with_the_engine_is_free(host: Host, plugins_too: bool) -> None:
    """Its address, its port, and its volume, which nobody will ever unmount."""
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    used = ("-v", "v1:/data", "--volume-driver", host.drivers.volume)
    host.web("ann", "--stop-timeout", "1", *used, "--network", "n1", "--ip", "10.61.0.20", "-p", "8080:80")
    if plugins_too:
        host.crash()
    else:
        host.engine.kill()
    host.ensure_running()
    wait_for("ann is known to be dead", lambda: host.facts("ann", ".State.Running") == "false")
    host.docker("rm", "ann")
    host.docker("volume", "rm", "v1")
    assert "/dev/loop" not in host.run("cat", "/proc/mounts")
    host.web("bob", "--network", "n1", "--ip", "10.61.0.20", "-p", "8080:80")
    assert host.ask("http", host.address, 8080, "/") == "lab"


def test_plugins_that_start_after_the_engine_are_found(host: Host) -> None:
    host.engine.stop()
    for plugin in host.plugins.values():
        plugin.stop()
    host.engine.start(timeout_s=60)
    for plugin in host.plugins.values():
        plugin.start()
    host.docker("network", "create", "-d", host.drivers.network, "n1")
    assert host.once("echo works >/data/file; cat /data/file", "--network", "n1", "-v", "v1:/data") == "works"


@pytest.mark.usefixtures("service")
def test_power_cut(host: Host, outside: WireHost) -> None:
    """Links, rules, mounts, loop devices and /run are gone; the disk is there."""
    host.docker("network", "create", "-d", host.drivers.network, "--internal", "--subnet", "10.62.0.0/24", "n2")
    policy = host.run("iptables", "-S", "FORWARD").splitlines()[0]
    host.run("sync", "-f", str(host.root))
    host.reboot()
    host.ensure_running()
    # An engine forbids forwarding in general when it is the one that switches it on; pynet is there before it.
    assert host.run("iptables", "-S", "FORWARD").splitlines()[0] == policy
    wait_until_back(host, outside, starts=2)
    host.web("ann", "--network", "n2")
    assert host.once("wget -qO- http://ann/", "--network", "n2") == "lab"
