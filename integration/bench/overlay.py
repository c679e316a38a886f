"""Measure an overlay of pynet beside VXLAN pairs made by hand and Docker's own overlay, in turns.

The inner throughput of one TCP connection between two hosts, and how soon an endpoint that was added is reached from
two others; on pynet also while thousands of endpoints are elsewhere.
"""

import argparse
import statistics
from collections.abc import Sequence
from contextlib import ExitStack

from integration.bench.flow import bits_a_second, pouring
from integration.bench.laboratory import laboratory
from integration.bench.reach import Reach
from integration.bench.samples import Samples, Unit
from integration.lab.circumstances import bridged_frames
from integration.lab.deadline import wait_for
from integration.lab.engine import ENGINES
from integration.lab.etcd import EtcdCluster, etcd_cluster
from integration.lab.fleet import started
from integration.lab.host import Drivers, Host

PYNET, BY_HAND, DOCKER = "pynet", "by-hand", "docker"
# As Docker has it: what passes the bridge does not pass the host's iptables.
APART = "by-hand-apart"
AMOUNT = 512 * 2**20
GIGABITS_A_SECOND = Unit("Gbit/s", 1e-9)
THROUGHPUT = "inner throughput, one TCP connection"
SUBNETS = {PYNET: "10.61.0.0/16", DOCKER: "10.62.0.0/16"}
# A bridge, a device and a container on it, as pynet has them, without anything else. {inside}: the namespace.
MAKE = """
ip -n {inside} link add hand type bridge
ip -n {inside} link set hand mtu 1450 up
ip link add handx{vni} mtu 1450 type vxlan id {vni} dstport 14999 local {own} remote {other}
ip link set handx{vni} netns {inside}
ip -n {inside} link set handx{vni} master hand up
ip -n {inside} link add handv mtu 1450 type veth peer name handc mtu 1450
ip -n {inside} link set handv master hand up
ip -n {inside} link set handc netns {pid}
nsenter --target={pid} --net ip address add {address}/24 dev handc
nsenter --target={pid} --net ip link set handc up
"""
# Names of namespaces are known on the host itself only.
NAMED = "mkdir -p /run/netns; ip netns attach own $$; ip netns add apart"
ACCEPT = "iptables -w -I FORWARD -i hand -o hand -j ACCEPT"


def main() -> None:
    """Everything was measured and printed, and nothing of it is left."""
    parser = argparse.ArgumentParser(prog="scripts/bench overlay", description=__doc__)
    parser.add_argument("--engine", default="docker-28.5", choices=sorted(ENGINES))
    parser.add_argument("--rounds", type=int, default=21, help="how often each throughput is measured")
    parser.add_argument("--endpoints", type=int, default=100, help="how many endpoints are added")
    parser.add_argument("--elsewhere", type=int, default=5000, help="among how many others they are added")
    chosen = parser.parse_args()
    with laboratory(ENGINES[chosen.engine], Drivers("pynet", "local")) as lab, ExitStack() as stack:
        etcd = stack.enter_context(etcd_cluster(lab))
        hosts = started(lab, 3, Drivers("pynet", "local", cluster=etcd.url))
        for host in hosts:
            stack.callback(host.close)
        addresses = {PYNET: with_pynet(hosts), **by_hand(hosts[:2]), DOCKER: with_docker(hosts)}
        for name, address in addresses.items():
            wait_for(f"{name} works", lambda name=name, address=address: reached(hosts[0], name, address), 30)
        version = hosts[0].docker("version", "--format", "{{.Server.Version}}")
        print(f"engine {version}, kernel {hosts[0].run('uname', '-r').strip()}\n")
        for passed in (True, False):
            print(f"bridged frames {'pass' if passed else 'do not pass'} the hosts' iptables:\n")
            with ExitStack() as circumstances:
                for host in hosts:
                    circumstances.enter_context(bridged_frames(host, pass_iptables=passed))
                print_throughput(hosts, addresses, chosen.rounds)
        print_reach(hosts, etcd, chosen.endpoints, chosen.elsewhere)


def with_pynet(hosts: Sequence[Host]) -> str:
    """The hosts have one overlay and a container each on it; return the second one's address."""
    for place, host in enumerate(hosts):
        words = ("--subnet", SUBNETS[PYNET], "--gateway", "10.61.0.1", "--ip-range", f"10.61.{place}.0/24")
        host.docker("network", "create", "-d", "pynet", *words, "-o", "type=overlay", "-o", "name=bench", PYNET)
        host.idle(PYNET, "--network", PYNET)
    return hosts[1].address_of(PYNET, PYNET)


def by_hand(hosts: Sequence[Host]) -> dict[str, str]:
    """The same, without any driver, on the host itself and in a namespace; return both second ones' addresses."""
    found = {}
    for host in hosts:
        host.run("sh", "-ec", NAMED)
    for number, (name, inside) in enumerate({BY_HAND: "own", APART: "apart"}.items(), 63):
        for place, (host, other) in enumerate(zip(hosts, reversed(hosts), strict=True), 1):
            host.idle(name, "--network", "none")
            found[name] = f"10.{number}.0.{place}"
            values = {"own": host.address, "other": other.address, "address": found[name], "vni": number}
            host.run("sh", "-ec", MAKE.format(pid=host.facts(name, ".State.Pid"), inside=inside, **values))
    for host in hosts:
        host.run("sh", "-ec", ACCEPT)
    return found


def with_docker(hosts: Sequence[Host]) -> str:
    """The same, as nodes of a swarm with the engine's own overlay."""
    manager, *workers = hosts
    manager.docker("swarm", "init", "--advertise-addr", manager.address)
    token = manager.docker("swarm", "join-token", "-q", "worker")
    for worker in workers:
        worker.docker("swarm", "join", "--token", token, f"{manager.address}:2377")
    manager.docker("network", "create", "-d", "overlay", "--attachable", "--subnet", SUBNETS[DOCKER], DOCKER)
    for host in hosts:
        host.idle(DOCKER, "--network", DOCKER)
    return hosts[1].address_of(DOCKER, DOCKER)


def reached(host: Host, name: str, address: str) -> bool:
    """Tell whether the host's container of that network gets an answer."""
    return host.machine.try_run(*host.network_of(name), "ping", "-c1", "-W1", address).returncode == 0


def print_throughput(hosts: Sequence[Host], addresses: dict[str, str], rounds: int) -> None:
    """Printed: what one TCP connection from the first host's container to the second one's carries."""
    sender, receiver, *_ = hosts
    names = list(addresses)
    samples = Samples(names, BY_HAND, GIGABITS_A_SECOND)
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(pouring(receiver, name, receiver.network_of(name)))
        inside = {name: sender.network_of(name) for name in names}
        for number in range(rounds):
            # Nobody is always the first one, nor always behind the same one.
            order = names[number % len(names) :] + names[: number % len(names)]
            for name in order if number % 2 else reversed(order):
                samples.note(THROUGHPUT, name, bits_a_second(sender, inside[name], addresses[name], AMOUNT))
    print(samples.table())
    found = samples.values[THROUGHPUT]
    print("\n| of the same round | median | middle half |\n|---|---|---|")
    for name, other in ((PYNET, BY_HAND), (PYNET, DOCKER), (DOCKER, APART), (APART, BY_HAND)):
        ratios = [one / another for one, another in zip(found[name], found[other], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        print(f"| {name} / {other} | {median:.2f} | {low:.2f}..{high:.2f} |")
    print()


def print_reach(hosts: Sequence[Host], etcd: EtcdCluster, count: int, elsewhere: int) -> None:
    """Printed: how soon an endpoint that was added on the second host answers the containers of both others."""
    reach = Reach(hosts[1], (hosts[0], hosts[2]))
    print("| an endpoint is reached from both other hosts, ms | median | 95 of 100 | longest |\n|---|---|---|---|")
    for name, prefix in ((DOCKER, "10.62.200"), (PYNET, "10.61.1")):
        print(reach.line(name, name, prefix, count))
    reach.fill(etcd, PYNET, elsewhere)
    print(reach.line(f"{PYNET}, {elsewhere} endpoints elsewhere", PYNET, "10.61.1", count))


if __name__ == "__main__":
    main()
