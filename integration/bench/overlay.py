"""Measure an overlay of pynet between two hosts beside a VXLAN pair made by hand and Docker's own overlay, in turns.

The inner throughput of one TCP connection, and how soon an endpoint that was added is reached from the other host.
"""

import argparse
import contextlib
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from integration.lab import machine, pour
from integration.lab.deadline import wait_for
from integration.lab.engine import ENGINES
from integration.lab.etcd import etcd_cluster
from integration.lab.fleet import started
from integration.lab.host import Drivers, Host
from integration.lab.lab import Lab

POUR = str(Path(pour.__file__))
PYNET, BY_HAND, DOCKER = "pynet", "made by hand", "docker"
AMOUNT = 512 * 2**20
PORT = 9000
SUBNETS = {PYNET: "10.61.0.0/24", DOCKER: "10.62.0.0/24"}
# A bridge, a device and a container on it, as pynet has them, without anything else.
MAKE = """
ip link add hand type bridge
ip link set hand mtu 1450 up
ip link add handx mtu 1450 type vxlan id 99 dstport 14999 local {own} remote {other}
ip link set handx master hand up
ip link add handv mtu 1450 type veth peer name handc mtu 1450
ip link set handv master hand up
ip link set handc netns {pid}
iptables -w -I FORWARD -i hand -o hand -j ACCEPT
nsenter --target={pid} --net ip address add {address}/24 dev handc
nsenter --target={pid} --net ip link set handc up
"""


def main() -> None:
    """Everything was measured and printed, and nothing of it is left."""
    parser = argparse.ArgumentParser(prog="scripts/bench overlay", description=__doc__)
    parser.add_argument("--engine", default="docker-28.5", choices=sorted(ENGINES))
    parser.add_argument("--rounds", type=int, default=9, help="how often each throughput is measured")
    parser.add_argument("--endpoints", type=int, default=100, help="how many endpoints are added")
    chosen = parser.parse_args()
    # Ended early, it still takes down what it made.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    root = Path(tempfile.mkdtemp(prefix="pylab-"))
    lab = Lab(root / "bench", ENGINES[chosen.engine], Drivers("pynet", "local"))
    with ExitStack() as stack:
        stack.callback(machine.remove_folder, root)
        stack.callback(lab.close)
        etcd = stack.enter_context(etcd_cluster(lab))
        hosts = started(lab, 2, Drivers("pynet", "local", cluster=etcd.url))
        for host in hosts:
            stack.callback(host.close)
        addresses = {PYNET: with_pynet(hosts), BY_HAND: by_hand(hosts), DOCKER: with_docker(hosts)}
        for name, address in addresses.items():
            wait_for(f"{name} works", lambda name=name, address=address: reached(hosts[0], name, address), 30)
        version = hosts[0].docker("version", "--format", "{{.Server.Version}}")
        print(f"engine {version}, kernel {hosts[0].run('uname', '-r').strip()}\n")
        print_throughput(hosts, addresses, chosen.rounds)
        print_reach(hosts, chosen.endpoints)


def with_pynet(hosts: tuple[Host, ...]) -> str:
    """The hosts have one overlay and a container each on it; return the second one's address."""
    for place, host in enumerate(hosts):
        words = ("--subnet", SUBNETS[PYNET], "--gateway", "10.61.0.1", "--ip-range", f"10.61.0.{place * 128}/25")
        host.docker("network", "create", "-d", "pynet", *words, "-o", "type=overlay", "-o", "name=bench", PYNET)
        host.idle(PYNET, "--network", PYNET)
    return hosts[1].address_of(PYNET, PYNET)


def by_hand(hosts: tuple[Host, ...]) -> str:
    """The same, without any driver."""
    name = BY_HAND.replace(" ", "-")
    for place, (host, other) in enumerate(zip(hosts, reversed(hosts), strict=True), 1):
        host.idle(name, "--network", "none")
        values = {"own": host.address, "other": other.address, "address": f"10.63.0.{place}"}
        host.run("sh", "-ec", MAKE.format(pid=host.facts(name, ".State.Pid"), **values))
    return "10.63.0.2"


def with_docker(hosts: tuple[Host, ...]) -> str:
    """The same, as nodes of a swarm with the engine's own overlay."""
    manager, worker = hosts
    manager.docker("swarm", "init", "--advertise-addr", manager.address)
    token = manager.docker("swarm", "join-token", "-q", "worker")
    worker.docker("swarm", "join", "--token", token, f"{manager.address}:2377")
    manager.docker("network", "create", "-d", "overlay", "--attachable", "--subnet", SUBNETS[DOCKER], DOCKER)
    for host in hosts:
        host.idle(DOCKER, "--network", DOCKER)
    return worker.address_of(DOCKER, DOCKER)


def entering(host: Host, name: str) -> tuple[str, ...]:
    """The command that starts another one in the network of that container."""
    return host.network_of(name.replace(" ", "-"))


def reached(host: Host, name: str, address: str) -> bool:
    """Tell whether the host's container of that network gets an answer."""
    return host.machine.try_run(*entering(host, name), "ping", "-c1", "-W1", address).returncode == 0


def print_throughput(hosts: tuple[Host, ...], addresses: dict[str, str], rounds: int) -> None:
    """Printed: what one TCP connection from the first host's container to the second one's carries."""
    sender, receiver = hosts
    found: dict[str, list[float]] = {name: [] for name in addresses}
    with ExitStack() as stack:
        for name in addresses:
            stack.enter_context(pouring(receiver, name))
        for _ in range(rounds):
            for name, address in addresses.items():
                words = (sys.executable, "-IS", POUR, "send", address, str(PORT), str(AMOUNT))
                found[name].append(float(sender.run(*entering(sender, name), *words)))
    reference = statistics.median(found[BY_HAND])
    print("| inner throughput, one TCP connection | Gbit/s | x made by hand |\n|---|---|---|")
    for name, values in found.items():
        median = statistics.median(values)
        print(f"| {name} | {median / 1e9:.2f} | {median / reference:.2f} |")


@contextlib.contextmanager
def pouring(host: Host, name: str) -> Iterator[None]:
    """Inside the block the host's container of that network takes what is poured."""
    log = host.machine.root / f"pour-{name.replace(' ', '-')}.log"
    with log.open("wb") as output:
        words = (*entering(host, name), sys.executable, "-IS", POUR, "serve", str(PORT))
        server = host.machine.spawn(*words, output=output)
    try:
        wait_for("pour serves", lambda: "ready" in log.read_text())
        yield
    finally:
        server.kill()
        server.wait(timeout=10)


def print_reach(hosts: tuple[Host, ...], count: int) -> None:
    """Printed: how soon an endpoint added on the second host answers the first one's container."""
    sender, receiver = hosts
    receiver.idle("new", "--network", "none")
    receiver.docker("network", "disconnect", "none", "new")
    print("\n| an endpoint is reached from the other host, ms | median | 95 of 100 |\n|---|---|---|")
    for name in (PYNET, DOCKER):
        after: list[float] = []
        inside = entering(sender, name)
        # What a ping takes to an address that has long been there is no part of it.
        address = receiver.address_of(name, name)
        known = statistics.median(ping(sender, inside, address) for _ in range(9))
        for number in range(count):
            # Another one each time, which nobody has asked for before.
            address = f"{SUBNETS[name].rpartition('.')[0]}.{140 + number % 100}"
            receiver.docker("network", "connect", "--ip", address, name, "new")
            after.append(max(0.0, ping(sender, inside, address) - known))
            receiver.docker("network", "disconnect", name, "new")
        ninety_five = statistics.quantiles(after, n=20)[-1]
        print(f"| {name} | {statistics.median(after) * 1000:.0f} | {ninety_five * 1000:.0f} |")


def ping(host: Host, inside: tuple[str, ...], address: str) -> float:
    """The address answers; return how many seconds that took, with the start of the program."""
    before = time.monotonic()
    host.run(*inside, "ping", "-c1", "-w", "10", address)
    return time.monotonic() - before


if __name__ == "__main__":
    main()
