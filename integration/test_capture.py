"""`pynet capture`: what it writes of a container and of an overlay."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapNgReader

from integration.lab import plugin
from integration.lab.deadline import wait_for
from integration.lab.fleet import started
from integration.lab.host import Host
from integration.lab.lab import Lab

Seen = list[tuple[str, bool, Ether]]


@contextmanager
def captured(host: Host, target: str) -> Iterator[Seen]:
    """After the block the list has what was seen in it: where, whether it was received there, and the frame."""
    path = host.machine.root / "seen.pcapng"
    path.unlink(missing_ok=True)
    # What is run in the background is started with SIGINT ignored, and so is what it starts.
    interruptible = ("env", "--default-signal=INT")
    command = (
        *interruptible,
        plugin.script("pynet"),
        "capture",
        target,
        "-w",
        str(path),
        "--state-dir",
        str(host.root / "pynet"),
    )
    with (host.machine.root / "capture.log").open("wb") as log:
        program = host.machine.spawn(*command, output=log)
    found: Seen = []
    try:
        wait_for("it has begun", lambda: path.exists() and path.stat().st_size)
        yield found
    finally:
        os.killpg(program.pid, signal.SIGINT)
        program.wait(timeout=20)
    with RawPcapNgReader(str(path)) as reader:
        found += [(meta.ifname.decode(), meta.direction == 1, Ether(data)) for data, meta in reader]


def pings(seen: Seen) -> list[tuple[str, bool, int]]:
    return [(where, received, frame[ICMP].type) for where, received, frame in seen if ICMP in frame]


def test_of_a_container_and_of_its_network(host: Host) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    host.idle("ann", "--network", "n1")
    host.idle("bob", "--network", "n1")
    with captured(host, "ann") as seen:
        host.sh("ann", "ping -c 1 -W 2 10.61.0.3")
    assert pings(seen) == [("ann on n1", False, 8), ("ann on n1", True, 0)]
    with captured(host, "n1") as seen:
        host.sh("ann", "ping -c 1 -W 2 10.61.0.3")
    assert sorted(pings(seen)) == [
        ("ann on n1", False, 8), ("ann on n1", True, 0), ("bob on n1", False, 0), ("bob on n1", True, 8),
    ]  # fmt: skip
    words = ("capture", "nobody", "-w", "/dev/null", "--state-dir", str(host.root / "pynet"))
    refused = host.machine.try_run(plugin.script("pynet"), *words)
    assert "there is neither a container nor a network" in refused.stderr


def test_of_an_overlay_without_its_tunnel(lab: Lab) -> None:
    hosts = started(lab, 2)
    try:
        peers = ",".join(host.address for host in hosts)
        for number, host in enumerate(hosts):
            overlay = ("-o", "type=overlay", "-o", "name=blue", "-o", f"peers={peers}")
            addresses = (
                "--subnet",
                "10.61.0.0/24",
                "--ip-range",
                f"10.61.0.{number * 128}/25",
                "--gateway",
                "10.61.0.1",
            )
            host.docker("network", "create", "-d", host.drivers.network, *addresses, *overlay, "blue")
        one, two = hosts
        one.idle("ann", "--network", "blue", "--ip", "10.61.0.10")
        two.idle("bob", "--network", "blue", "--ip", "10.61.0.140")
        with captured(one, "blue") as seen:
            one.sh("ann", "ping -c 1 -W 2 10.61.0.140")
        there = "other hosts on blue"
        assert sorted(pings(seen)) == [
            ("ann on blue", False, 8), ("ann on blue", True, 0), (there, False, 0), (there, True, 8),
        ]  # fmt: skip
        assert not [frame for _, _, frame in seen if UDP in frame and IP in frame and frame[IP].src == one.address]
    finally:
        for host in hosts:
            lab.discard(host)


def test_who_sends_most_is_seen_at_the_top(host: Host) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    for name in ("ann", "bob"):
        host.idle(name, "--network", "n1")
    host.docker("exec", "-d", "bob", "ping", "-s", "1400", "-i", "0.1", "10.61.0.1")
    words = ("top", "--once", "--every", "1", "--state-dir", str(host.root / "pynet"))
    [bob, ann] = [line.split() for line in host.run(plugin.script("pynet"), *words).splitlines()[1:]]
    assert (bob[0], bob[2].endswith("kbit"), ann[0]) == ("bob", True, "ann")
