"""`pynet publish`: ports that are opened and closed on a container that runs."""

import json
import time

import pytest

from integration.lab import plugin
from integration.lab.circumstances import answering, outcome
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

SUBNETS = ("--subnet", "10.61.0.0/24", "--ipv6", "--subnet", "fd61::/64")


def pynet(host: Host, *words: str) -> str:
    """What the command prints, which must succeed."""
    return host.run(plugin.script("pynet"), *words, "--state-dir", str(host.root / "pynet"))


def refused(host: Host, *words: str) -> str:
    """Why the command was refused."""
    done = host.machine.try_run(plugin.script("pynet"), *words, "--state-dir", str(host.root / "pynet"))
    assert done.returncode == 1, done
    return done.stderr


def ways(host: Host, port: int) -> dict[str, str]:
    return {"v4": f"tcp {host.address} {port}", "v6": f"tcp {host.address6} {port}"}


@pytest.fixture
def web(host: Host) -> Host:
    """A host with a server that it publishes at 8080."""
    host.docker("network", "create", "-d", host.drivers.network, *SUBNETS, "n1")
    host.web("web", "--network", "n1", "-p", "8080:80")
    return host


@pytest.mark.everywhere
def test_for_all_or_for_some_until_it_is_closed(web: Host, outside: WireHost) -> None:
    pynet(web, "publish", "add", "web", "9000:80")
    pynet(web, "publish", "add", "web", "9001:80", "--from", f"{outside.address}/32,fd00:dead::/64")
    pynet(web, "publish", "add", "web", "9002:80", "--from", "localhost")
    assert answering(outside, ways(web, 9000)) == {"v4", "v6"}
    assert answering(outside, ways(web, 9001)) == {"v4"}
    assert answering(outside, ways(web, 9002)) == set()
    assert answering(web, ways(web, 9001)) == set()
    assert answering(web, ways(web, 9002)) == {"v4", "v6"}
    assert f"9001/tcp  web        80         n1       {outside.address}/32" in pynet(web, "ports")
    pynet(web, "publish", "rm", "web", "9000")
    assert answering(outside, ways(web, 9000)) == set()
    assert answering(outside, ways(web, 9001)) == {"v4"}
    assert answering(outside, ways(web, 8080)) == {"v4", "v6"}, "what the engine publishes stays"
    explained = json.loads(pynet(web, "explain", outside.address, web.address, "9001", "--json"))
    assert explained["Verdict"] == "passes"
    web.docker("rm", "-f", "web")
    web.web("web", "--network", "n1", "-p", "9001:80")
    assert answering(outside, ways(web, 9001)) == {"v4", "v6"}, "with the container all of it went"


def test_for_a_while(web: Host, outside: WireHost) -> None:
    opened = time.monotonic()
    pynet(web, "publish", "add", "web", "9000:80", "--for", "4s")
    assert " until " in pynet(web, "ports")
    assert answering(outside, ways(web, 9000)) == {"v4", "v6"} or time.monotonic() - opened > 4
    wait_for("it is closed", lambda: answering(outside, ways(web, 9000)) == set(), 10)
    assert " until " not in pynet(web, "ports")


@pytest.mark.parametrize("end", ["kill", "flush"])
def test_it_outlives_pynet_and_a_flush(web: Host, outside: WireHost, end: str) -> None:
    pynet(web, "publish", "add", "web", "9000:80", "--from", outside.address)
    if end == "kill":
        web.plugins["pynet"].kill()
        web.ensure_running()
    else:
        web.run("sh", "-c", "nft delete table ip pynet || iptables -t nat -F PYNET-DNAT")
    wait_for("it is open", lambda: outcome(outside, ways(web, 9000)["v4"]) == "answered", 15)
    assert answering(web, {"v4": ways(web, 9000)["v4"]}) == set()
    pynet(web, "publish", "rm", "web", "9000")
    assert answering(outside, ways(web, 9000)) == set()


def test_a_mistake_is_told_and_nothing_is_opened(web: Host) -> None:
    before = pynet(web, "ports")
    for words, reason in {
        ("add", "web", "8080:80"): "the container has 8080 already",
        ("add", "nobody", "9000:80"): "no container of that name runs on a network of pynet's",
        ("add", "web", "9000"): "write 8080:80",
        ("add", "web", "9000-9001:80-82"): "the two ranges are not of one length",
        ("add", "web", "99999:80"): "ports go from 1 to 65535",
        ("add", "web", "9000:80", "--from", "10.0.0.1/8"): "has host bits set",
        ("add", "web", "9000:80", "--for", "soon"): "write 30s, 10m, 2h or 1d",
        ("rm", "web", "8080"): "the container was started with it (-p)",
        ("rm", "web", "9000"): "see pynet ports",
    }.items():
        assert reason in refused(web, "publish", *words)
    with web.answering("tcp", 9000):
        assert "9000" in refused(web, "publish", "add", "web", "9000:80"), "a program has it"
    assert pynet(web, "ports") == before
