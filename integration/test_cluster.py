"""Overlays whose hosts agree by way of etcd: three members of it, three hosts, real faults."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product

import pytest

from integration.lab import image
from integration.lab.circumstances import answering, outcome
from integration.lab.deadline import wait_for
from integration.lab.etcd import EtcdCluster
from integration.lab.fleet import captured, longest_gap, pinging
from integration.lab.host import Host
from integration.lab.lab import Lab

Hosts = tuple[Host, ...]
PORT = 14789
MTU = 1450


@dataclass
class Member:
    """A container of a network, on a host, that answers TCP on port 80 and UDP on one of its own."""

    name: str
    network: str
    host: Host
    port: int
    inside: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    def start(self) -> None:
        self.host.web(self.name, "--network", self.network)
        self.inside = self.host.network_of(self.name)
        self.addresses = addresses(self.host, self.name, self.network)

    @property
    def targets(self) -> set[str]:
        """What others try: each protocol, and packets of one byte and of all that there is room for."""
        found = set()
        for address, headers in zip(self.addresses, (28, 48), strict=True):
            found |= {f"tcp {address} 80", f"udp {address} {self.port}"}
            found |= {f"ping {address} 1", f"ping {address} {MTU - headers}"}
        return found

    def reached(self, everybody: list["Member"]) -> set[str]:
        targets = {target: target for member in everybody for target in member.targets}
        return answering(self.host, targets, self.inside)


@pytest.fixture
def hosts(fleet: Hosts, etcd: EtcdCluster) -> Iterator[Hosts]:
    """Three running hosts; after the test they are as before it, and nothing is left in etcd but that they exist."""
    yield fleet
    etcd.start()
    for host in fleet:
        host.clean()
    assert [change for host in fleet for change in host.changes_since(host.before)] == []
    known = {"host", "alive"}
    wait_for("nothing left in etcd", lambda: {key.split("/")[3] for key in etcd.all_keys()} == known, 15)


def create(hosts: Hosts, name: str, number: int, *words: str) -> None:
    """The hosts have one network: 10.NUMBER.0.0/24 and fdNUMBER::/64, of which each hands out a part."""
    for place, host in enumerate(hosts, 1):
        subnet = ["--subnet", f"10.{number}.0.0/24", "--ip-range", f"10.{number}.0.{place * 64 % 256}/26"]
        subnet6 = ["--ipv6", "--subnet", f"fd{number}::/64", "--ip-range", f"fd{number}::{place}:0/112"]
        gateways = ["--gateway", f"10.{number}.0.1", "--gateway", f"fd{number}::1"]
        overlay = ["-o", "type=overlay", "-o", f"name={name}"]
        host.docker(
            "network", "create", "-d", host.drivers.network, *subnet, *subnet6, *gateways, *overlay, *words, name
        )


def addresses(host: Host, container: str, network: str) -> tuple[str, str]:
    return host.address_of(container, network), host.facts(
        container, f'(index .NetworkSettings.Networks "{network}").GlobalIPv6Address'
    )


def device_of(host: Host, network: str) -> str:
    return "pnx" + host.docker("network", "inspect", "--format", "{{.Id}}", network)[:8]


def entries(host: Host, network: str) -> list[str]:
    """Where the host sends frames, as bridge(8) prints it."""
    shown = host.run("bridge", "fdb", "show", "dev", device_of(host, network)).splitlines()
    return sorted(line for line in shown if " dst " in line)


def knows(host: Host, network: str, count: int) -> bool:
    return len(entries(host, network)) == count


@pytest.mark.everywhere
def test_everybody_reaches_everybody_and_nobody_asks_on_the_wire(lab: Lab, hosts: Hosts) -> None:
    """By TCP, UDP and packets of each size that the MTU allows, in both families; and nobody of another network."""
    networks = {"blue": 61, "green": 62, "red": 63}
    for name, number in networks.items():
        create(hosts, name, number)
    placed = [(name, hosts[(first + k) % 3]) for first, name in enumerate(networks) for k in range(4)]
    everybody = [Member(f"{name}{place}", name, host, 9000 + place) for place, (name, host) in enumerate(placed)]
    with ThreadPoolExecutor(4) as pool, ExitStack() as listening:
        list(pool.map(Member.start, everybody))
        for member in everybody:
            listening.enter_context(member.host.answering("udp", member.port, member.inside))
        for host, name in product(hosts, networks):
            known = 2 + sum(member.network == name and member.host is not host for member in everybody)
            wait_for("both hosts and all others", partial(knows, host, name, known), 5)
        with captured(lab.wire, PORT) as frames:
            for member, found in zip(everybody, pool.map(lambda one: one.reached(everybody), everybody), strict=True):
                theirs = {target for other in everybody if other.network == member.network for target in other.targets}
                assert found == theirs, member.name
    member_at = {address: member for member in everybody for address in member.addresses}
    passed = [(frame, member_at[frame.inner]) for frame in frames if frame.inner in member_at]
    assert (
        len({(frame.vni, member.network) for frame, member in passed}) == len({frame.vni for frame, _ in passed}) == 3
    )
    assert {(frame.destination, member.host.address) for frame, member in passed} == {(h.address,) * 2 for h in hosts}
    # Nobody asks for whom the cluster knows; foreign addresses are asked for by nobody, for they are routed.
    assert [frame for frame in frames if frame.kind == "question"] == []


def test_who_asks_whether_an_address_is_taken_hears_of_it_from_another_host(hosts: Hosts) -> None:
    """As a DHCP client or a kernel does before it uses an address."""
    create(hosts[:2], "blue", 61)
    for host in hosts[:2]:
        host.idle("ann", "--network", "blue")
    asker, inside = hosts[0], hosts[0].network_of("ann")
    taken4, taken6 = addresses(hosts[1], "ann", "blue")

    def probe(address: str) -> int:
        words = ("busybox", "arping", "-D", "-c", "2", "-w", "2", "-I", "eth0", address)
        return asker.machine.try_run(*inside, *words).returncode

    assert (probe(taken4), probe("10.61.0.250")) == (1, 0)
    for address in (taken6, "fd61::dead"):
        asker.run(*inside, "ip", "address", "add", f"{address}/64", "dev", "eth0")

    def state_of(address: str) -> str:
        shown = asker.run(*inside, "ip", "-o", "-6", "address", "show", "to", f"{address}/128")
        return "taken" if "dadfailed" in shown else "asked for" if "tentative" in shown else "free"

    wait_for("its owner says so", lambda: state_of(taken6) == "taken", 10)
    wait_for("nobody says so", lambda: state_of("fd61::dead") == "free", 10)


def test_two_hosts_cannot_have_one_address(hosts: Hosts) -> None:
    create(hosts[:2], "blue", 61)
    hosts[0].idle("ann", "--network", "blue", "--ip", "10.61.0.200")
    refused = hosts[1].docker_error("run", "--rm", "--network", "blue", "--ip", "10.61.0.200", image.NAME, "true")
    assert "10.61.0.200 of blue is in use by endpoint" in refused
    hosts[0].docker("rm", "-f", "ann")
    hosts[1].idle("ann", "--network", "blue", "--ip", "10.61.0.200")


def test_the_cluster_knows_a_network_by_its_name_and_subnet(hosts: Hosts) -> None:
    create(hosts[:1], "blue", 61)
    words = ["-o", "type=overlay", "-o", "name=blue", "--subnet", "10.62.0.0/24"]
    refused = hosts[1].docker_error("network", "create", "-d", hosts[1].drivers.network, *words, "blue")
    assert "the cluster has it with 10.61.0.0/24 (gateway 10.61.0.1)" in refused


def test_a_container_moves_and_nothing_of_it_stays_behind(hosts: Hosts) -> None:
    create(hosts, "blue", 61)
    hosts[0].idle("ann", "--network", "blue")
    moving = ("--network", "blue", "--ip", "10.61.0.200", "--mac-address", "02:42:0a:3d:00:c8")
    hosts[1].idle("bob", *moving)
    with pinging(hosts[0], "ann", "10.61.0.200") as answers:
        hosts[1].docker("rm", "-f", "bob")
        hosts[2].idle("bob", *moving)
        there = time.time()
        time.sleep(1.5)
    assert min(answer for answer in answers if answer > there - 0.5) - there < 1.0
    old, new = (f"02:42:0a:3d:00:c8 dst {host.address} " for host in hosts[1:])
    assert any(line.startswith(new) for line in entries(hosts[0], "blue"))
    assert not [line for host in hosts for line in entries(host, "blue") if line.startswith(old)]


def two_that_talk(hosts: Hosts) -> str:
    """Two hosts have a container each that reach each other; the second one's address is returned."""
    create(hosts[:2], "blue", 61)
    for host in hosts[:2]:
        host.idle("ann", "--network", "blue")
    return addresses(hosts[1], "ann", "blue")[0]


def test_the_leader_dies(hosts: Hosts, etcd: EtcdCluster) -> None:
    with pinging(hosts[0], "ann", two_that_talk(hosts)) as answers:
        etcd.leader().kill()
        hosts[1].idle("bob", "--network", "blue")
        address = addresses(hosts[1], "bob", "blue")[0]
        wait_for(
            "bob is reached", lambda: outcome(hosts[0], f"ping {address}", hosts[0].network_of("ann")) == "answered", 15
        )
    assert longest_gap(answers) < 0.5


def test_all_of_etcd_is_away_and_the_plugins_start_again_meanwhile(hosts: Hosts, etcd: EtcdCluster) -> None:
    with pinging(hosts[0], "ann", two_that_talk(hosts)) as answers:
        hosts[1].idle("bob", "--network", "blue")
        etcd.stop()
        refused = hosts[1].docker_error("run", "--rm", "--network", "blue", image.NAME, "true")
        assert "cannot ask etcd" in refused
        # It cannot be told to anybody now, and is not forgotten.
        hosts[1].docker("rm", "-f", "bob")
        for host in hosts[:2]:
            host.plugins["pynet"].kill()
            host.plugins["pynet"].start()
        time.sleep(1)
        etcd.start()
        wait_for("bob is forgotten", lambda: sum("/endpoint/" in key for key in etcd.all_keys()) == 2, 15)
        hosts[1].idle("bob", "--network", "blue")
    assert longest_gap(answers) < 0.5


def test_a_host_is_cut_from_etcd_and_heals(hosts: Hosts, etcd: EtcdCluster) -> None:
    address = two_that_talk(hosts)
    away = f"blackhole {etcd.machine.address}"
    with pinging(hosts[0], "ann", address) as answers:
        hosts[0].run("ip", "route", "add", *away.split())
        hosts[1].idle("bob", "--network", "blue")
        bob = addresses(hosts[1], "bob", "blue")[0]
        time.sleep(6)
        # What happened meanwhile cannot be told any more, only what is.
        etcd.ctl("compact", etcd.revision())
        hosts[0].run("ip", "route", "del", *away.split())
        wait_for("bob is known", lambda: len(entries(hosts[0], "blue")) == 3, 15)
        assert outcome(hosts[0], f"ping {bob}", hosts[0].network_of("ann")) == "answered"
    assert longest_gap(answers) < 0.5


def test_the_member_that_is_listened_to_falls_silent(hosts: Hosts, etcd: EtcdCluster) -> None:
    """Its connections stay open, and nothing comes by them any more."""
    address = two_that_talk(hosts)
    member = etcd.members["one"]
    member.signal(signal.SIGSTOP)
    try:
        hosts[1].idle("bob", "--network", "blue")
        bob = addresses(hosts[1], "bob", "blue")[0]
        wait_for("bob is known", lambda: len(entries(hosts[0], "blue")) == 3, 20)
        for target in (address, bob):
            assert outcome(hosts[0], f"ping {target}", hosts[0].network_of("ann")) == "answered"
    finally:
        member.signal(signal.SIGCONT)


def known_of(host: Host, device: str, bridge: str) -> list[str]:
    """What the host's kernel has been told of others: where to send frames, what to answer."""
    shown = host.run("sh", "-c", f"bridge fdb show br {bridge}; ip neigh show dev {bridge} nud permanent")
    return sorted(line for line in shown.splitlines() if device in line or "PERMANENT" in line)


BREAK = {
    "entry deleted": "bridge fdb del {mac} dev {device} dst {peer} self",
    "entry falsified": "bridge fdb replace {mac} dev {device} dst 10.90.0.99 self permanent",
    "bridge's part deleted": "bridge fdb del {mac} dev {device} master",
    "neighbour deleted": "ip neigh del {address} dev {bridge}",
    "entry added": "bridge fdb replace 02:00:00:00:00:99 dev {device} dst 10.90.0.99 self permanent",
}


@pytest.mark.parametrize("what", BREAK)
def test_what_others_break_is_repaired_at_once(hosts: Hosts, what: str) -> None:
    address = two_that_talk(hosts)
    wait_for("the other one is known", lambda: len(entries(hosts[0], "blue")) == 2, 5)
    device = device_of(hosts[0], "blue")
    bridge = "pn-" + device.removeprefix("pnx")
    right = known_of(hosts[0], device, bridge)
    mac = hosts[1].facts("ann", '(index .NetworkSettings.Networks "blue").MacAddress')
    names = {"mac": mac, "device": device, "bridge": bridge, "peer": hosts[1].address, "address": address}
    hosts[0].run("sh", "-ec", BREAK[what].format(**names))
    wait_for("repair", lambda: known_of(hosts[0], device, bridge) == right, 2.0)
    assert outcome(hosts[0], f"ping {address}", hosts[0].network_of("ann")) == "answered"
