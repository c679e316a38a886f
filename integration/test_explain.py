"""What `pynet explain` says of a packet is what becomes of it."""

import contextlib
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from integration.lab import plugin, unixhttp
from integration.lab.circumstances import answering, route
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

MODE = "com.docker.network.bridge.gateway_mode_ipv4"
ICC = "com.docker.network.bridge.enable_icc"
WEB, STRANGER = "10.61.0.10", "10.62.0.10"
KINDS = {
    "nat": [], "unprotected": ["-o", f"{MODE}=nat-unprotected"], "routed": ["-o", f"{MODE}=routed"],
    "isolated": ["--internal", "-o", f"{MODE}=isolated"], "internal": ["--internal"], "no icc": ["-o", f"{ICC}=false"],
    "chosen": ["-o", "publish_from=10.62.0.0/24"], "localhost": ["-o", "publish_from=localhost"],
}  # fmt: skip


def explained(host: Host, *words: str) -> dict[str, object]:
    """The answer, as JSON."""
    argv = (plugin.script("pynet"), "explain", *words, "--json", "--state-dir", str(host.root / "pynet"))
    done = host.machine.try_run(*argv)
    answer: dict[str, object] = json.loads(done.stdout or "{}")
    assert done.returncode == (answer.get("Verdict") == "dropped"), done
    return answer


@pytest.mark.parametrize("kind", KINDS)
def test_the_verdict_is_what_becomes_of_the_packet(host: Host, outside: WireHost, kind: str) -> None:
    create = ("network", "create", "-d", host.drivers.network, "--subnet")
    host.docker(*create, "10.61.0.0/24", *KINDS[kind], "n1")
    host.docker(*create, "10.62.0.0/24", "n2")
    published = [] if "--internal" in KINDS[kind] else ["-p", "8080:80"]
    host.web("web", "--network", "n1", "--ip", WEB, *published)
    host.idle("neighbour", "--network", "n1", "--ip", "10.61.0.11")
    host.idle("stranger", "--network", "n2", "--ip", STRANGER)
    targets = {"80": f"tcp {WEB} 80", "81": f"tcp {WEB} 81", "ping": f"ping {WEB}", "8080": f"tcp {host.address} 8080"}
    whence = {
        "10.61.0.11": (host, host.network_of("neighbour")),
        STRANGER: (host, host.network_of("stranger")),
        "": (host, ()),
        outside.address: (outside, ()),
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(route(outside, f"10.61.0.0/24 via {host.address}"))
        stack.enter_context(host.answering("tcp", 81, host.network_of("web")))
        pool = stack.enter_context(ThreadPoolExecutor(len(whence)))
        reached = list(pool.map(lambda place: answering(place[0], targets, place[1]), whence.values()))
    seen = {(source, target) for source, names in zip(whence, reached, strict=True) for target in names}
    assert {(source, target) for source in whence for target in targets if passes(host, source, target)} == seen


def passes(host: Host, source: str, target: str) -> bool:
    """What the plugin says of a packet from an address, "" for the host, to one of the targets."""
    where = {"Destination": host.address if target == "8080" else WEB, "ToHost": target == "8080"}
    what = {"Protocol": "icmp", "Port": 0} if target == "ping" else {"Protocol": "tcp", "Port": int(target)}
    socket = host.root / "pynet" / "admin.sock"
    answer = unixhttp.ask(socket, "/v1/Packets.Explain", {"Source": source, **where, **what})
    return bool(answer["Verdict"] == "passes")


@pytest.mark.everywhere
def test_it_says_why(host: Host) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "--internal", "n1")
    host.idle("ann", "--network", "n1", "--ip", "10.61.0.11")
    argv = (plugin.script("pynet"), "explain", "--state-dir", str(host.root / "pynet"))
    done = host.machine.try_run(*argv, "ann", "192.0.2.1", "53/udp")
    assert done.returncode == 1
    first, step = done.stdout.splitlines()
    assert first == "10.61.0.11 to 192.0.2.1 53/udp: dropped"
    assert step.strip().startswith("nothing leaves network n1, which is internal or isolated (PYNET-CLOSED, closed-n")
    assert explained(host, "host", "ann", "80")["Verdict"] == "passes"
    assert explained(host, "192.0.2.1", "192.0.2.2")["Verdict"] == "for others to decide"


def test_a_probe_goes_where_it_is_said_to_go(host: Host) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.62.0.0/24", "n2")
    host.web("web", "--network", "n1", "-p", "8080:80")
    host.idle("ann", "--network", "n1")
    host.idle("bob", "--network", "n2")
    shown = host.run(
        plugin.script("pynet"), "explain", "ann", "web", "--probe", "--state-dir", str(host.root / "pynet")
    )
    lines = [line.split() for line in shown.splitlines()]
    start = lines.index(["a", "packet", "was", "sent,", "and", "seen"])
    assert [(words[0], *words[2:]) for words in lines[start + 1 : -1] if "bridge" not in words] == [
        ("in", "ann", "on", "n1"), ("out", "web", "on", "n1"),
    ]  # fmt: skip
    assert lines[-1] == ["it", "went", "to", "web", "on", "n1,", "as", "explained"]
    for words, reached in ((["bob", host.address, "8080"], "web on n1"), (["bob", "web", "80"], "")):
        answer = explained(host, *words, "--probe")
        probed = answer["Probe"]
        assert isinstance(probed, dict)
        assert (probed["Agrees"], probed["Reached"]) == (True, reached), answer


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nobody", "10.61.0.11"], "cannot find nobody: it is no address, and no running container on a network"),
        (["host", "host"], "say at which of its addresses"),
        (["10.61.0.1", "fd00::1"], "cannot tell which addresses are meant by 10.61.0.1 and fd00::1"),
        (["10.61.0.1", "10.61.0.2", "http"], "cannot use the port http: write 80, 53/udp or 9/sctp"),
    ],
)
def test_mistakes_are_told(host: Host, words: list[str], reason: str) -> None:
    argv = (plugin.script("pynet"), "explain", *words, "--state-dir", str(host.root / "pynet"))
    done = host.machine.try_run(*argv)
    assert (done.returncode, done.stdout) == (1, "")
    assert reason in done.stderr


def test_the_rules_that_are_shown_are_those_of_the_kernel(host: Host) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    host.idle("ann", "--network", "n1", "-p", "8080:80")
    shown = host.run(plugin.script("pynet"), "rules", "n1", "--state-dir", str(host.root / "pynet"))
    assert "network n1, container ann" in shown
    kernel = host.run("sh", "-c", "iptables-save; nft list table ip pynet 2>&1 || true")
    chains = re.findall(r"^  ipv4 \w+ (\S+):", shown, re.MULTILINE)
    assert chains
    assert [chain for chain in chains if chain not in kernel] == []
