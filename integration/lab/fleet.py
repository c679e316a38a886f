"""Several hosts at once, and what they say to each other on the wire."""

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet
from scapy.utils import rdpcap

from integration.lab.deadline import wait_for
from integration.lab.host import Drivers, Host
from integration.lab.lab import Lab
from integration.lab.wire import Wire

# By it pynet tries the ways to peers, now and then.
WAYS = 0x4FFFFF


@dataclass(frozen=True, slots=True)
class Tunnelled:
    """A frame in a VXLAN packet: who sent it to whom in the underlay, and what it was.

    kind: "question" (to everybody, where an address is), "arp" for all other ARP, "nd" for IPv6's, "ip" for
    all other IP, "other".
    inner: the address that an "ip" is for; "" for others.
    """

    source: str
    destination: str
    vni: int
    kind: str
    inner: str


def started(lab: Lab, count: int, drivers: Drivers | None = None) -> tuple[Host, ...]:
    """New hosts, running; whoever asked for them gives them to `discard`."""
    hosts = tuple(lab.bare_host(drivers) for _ in range(count))
    try:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(Host.start, hosts))
    except BaseException:
        for host in hosts:
            lab.discard(host)
        raise
    return hosts


@contextlib.contextmanager
def recorded(wire: Wire, what: str) -> Iterator[list[Packet]]:
    """After the block the list holds the packets that went over the wire in it and are `what`, as tcpdump has it."""
    path = wire.machine.root / "wire.pcap"
    log = wire.machine.root / "tcpdump.log"
    with log.open("wb") as output:
        # The bridge hands on what its machines send to each other while somebody listens to everything.
        words = ("tcpdump", "-i", "wire0", "-U", "--immediate-mode", "-Z", "root", "-w", str(path), what)
        listening = wire.machine.spawn(*words, output=output)
    found: list[Packet] = []
    try:
        wait_for("tcpdump listens", lambda: "listening on" in log.read_text())
        yield found
    finally:
        os.killpg(listening.pid, signal.SIGINT)
        listening.wait(timeout=10)
    found += rdpcap(str(path))


@contextlib.contextmanager
def captured(wire: Wire, port: int) -> Iterator[list[Tunnelled]]:
    """After the block the list holds what went over the wire in it, as VXLAN on that UDP port."""
    found: list[Tunnelled] = []
    with recorded(wire, f"udp port {port}") as packets:
        yield found
    found += _read(packets)


@contextlib.contextmanager
def pinging(host: Host, container: str, address: str) -> Iterator[list[float]]:
    """Inside the block the container pings ten times a second; after it the list holds when answers came."""
    log = host.machine.root / "ping.log"
    words = ("ping", "-D", "-i", "0.1", "-W", "1", address)
    with log.open("wb") as output:
        program = host.machine.spawn(*host.network_of(container), *words, output=output)
    answers: list[float] = []
    try:
        wait_for("first answer", lambda: "ttl=" in log.read_text())
        yield answers
    finally:
        os.killpg(program.pid, signal.SIGINT)
        program.wait(timeout=10)
    answers += [float(when) for when in re.findall(r"\[([\d.]+)\] \d+ bytes from", log.read_text())]


def longest_gap(answers: list[float]) -> float:
    """The longest time without an answer."""
    return max(later - earlier for earlier, later in pairwise(answers))


def _read(packets: list[Packet]) -> list[Tunnelled]:
    read = []
    for frame in packets:
        outer = frame[IP] if IP in frame else frame[IPv6]
        inner = VXLAN(bytes(frame[UDP].payload))
        if inner.vni == WAYS:
            continue
        kind = _kind(inner)
        within = (inner[IP] if IP in inner else inner[IPv6]).dst if kind == "ip" else ""
        read.append(Tunnelled(outer.src, outer.dst, inner.vni, kind, within))
    return read


def _kind(inner: VXLAN) -> str:
    if ICMPv6ND_NS in inner or ICMPv6ND_NA in inner:
        return "nd"
    if ARP not in inner:
        return "ip" if IP in inner or IPv6 in inner else "other"
    # A kernel that has not heard from a neighbour for a while asks that one alone; an announcement asks nothing.
    is_question = inner[ARP].op == 1 and inner[Ether].dst == "ff:ff:ff:ff:ff:ff" and inner[ARP].psrc != inner[ARP].pdst
    return "question" if is_question else "arp"
