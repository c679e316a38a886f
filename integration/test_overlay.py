"""One network over several hosts that know each other by -o peers: who reaches whom, and by what packets."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.lab.circumstances import answering, outcome
from integration.lab.deadline import wait_for
from integration.lab.fleet import captured, longest_gap, pinging, started
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.wirehost import WireHost

Hosts = tuple[Host, ...]
PORT = 14789


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Iterator[Hosts]:
    hosts = started(lab, 3)
    yield hosts
    for host in hosts:
        lab.discard(host)


@pytest.fixture
def hosts(fleet: Hosts) -> Iterator[Hosts]:
    """Three running hosts, which must be after the test as they were before it."""
    yield fleet
    for host in fleet:
        host.clean()
    assert [change for host in fleet for change in host.changes_since(host.before)] == []


def create(hosts: Hosts, name: str, number: int, *words: str, family: str = "ipv4", own_gateways: bool = False) -> None:
    """The hosts have one network: 10.NUMBER.0.0/24 and fdNUMBER::/64, of which each hands out a part."""
    peers = ",".join(host.address if family == "ipv4" else host.address6 for host in hosts)
    overlay = ["-o", "type=overlay", "-o", f"name={name}", "-o", f"peers={peers}"]
    for place, host in enumerate(hosts, 1):
        subnet = ["--subnet", f"10.{number}.0.0/24", "--ip-range", f"10.{number}.0.{place * 64 % 256}/26"]
        subnet6 = ["--ipv6", "--subnet", f"fd{number}::/64", "--ip-range", f"fd{number}::{place}:0/112"]
        own = place if own_gateways else 1
        gateways = ["--gateway", f"10.{number}.0.{own}", "--gateway", f"fd{number}::{own}"]
        host.docker(
            "network", "create", "-d", host.drivers.network, *subnet, *subnet6, *gateways, *overlay, *words, name
        )


def addresses(host: Host, container: str, network: str) -> tuple[str, str]:
    return host.address_of(container, network), host.facts(
        container, f'(index .NetworkSettings.Networks "{network}").GlobalIPv6Address'
    )


def overlay_device(host: Host, network: str) -> str:
    return "pnx" + host.docker("network", "inspect", "--format", "{{.Id}}", network)[:8]


def vni_of(host: Host, network: str) -> int:
    [link] = json.loads(host.run("ip", "-json", "-details", "link", "show", "dev", overlay_device(host, network)))
    vni = link["linkinfo"]["info_data"]["id"]
    assert isinstance(vni, int)
    return vni


@pytest.mark.everywhere
def test_three_hosts_and_two_networks(lab: Lab, hosts: Hosts) -> None:
    """Everybody of a network reaches everybody of it, by packets of its VNI between its hosts, and nobody else."""
    create(hosts, "blue", 61)
    create(hosts, "green", 62)
    places = {}
    for host in hosts:
        for network in ("blue", "green"):
            host.web(network, "--network", network)
            for address in addresses(host, network, network):
                places[address] = (network, host)
    with captured(lab.wire, PORT) as frames:
        for host in hosts:
            for network in ("blue", "green"):
                targets = {address: f"tcp {address} 80" for address in places}
                theirs = {address for address, (other, _) in places.items() if other == network}
                assert answering(host, targets, host.network_of(network)) == theirs, (host.name, network)
    vnis = {vni_of(hosts[0], "blue"), vni_of(hosts[0], "green")}
    assert len(vnis) == 2
    assert {frame.vni for frame in frames} == vnis
    assert {(frame.source, frame.destination) for frame in frames} == {
        (one.address, other.address) for one in hosts for other in hosts if one is not other
    }
    assert {vni_of(host, "blue") for host in hosts} == {vni_of(hosts[0], "blue")}


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_packets_of_every_size_arrive_whole(hosts: Hosts, family: str) -> None:
    """Up to the MTU that the containers see, which is what the way between the hosts leaves; UDP and TCP alike."""
    create(hosts[:2], "blue", 61, family=family)
    overhead = 50 if family == "ipv4" else 70
    one, other = hosts[:2]
    one.idle("ann", "--network", "blue")
    other.idle("bob", "--network", "blue")
    assert one.sh("ann", "cat /sys/class/net/eth0/mtu").strip() == str(1500 - overhead)
    inside = one.network_of("ann")
    for address, headers in zip(addresses(other, "bob", "blue"), (28, 48), strict=True):
        for size in (1, 1500 - overhead - headers):
            one.run(*inside, "ping", "-c1", "-W3", "-M", "do", "-s", str(size), address)
        for protocol in ("tcp", "udp"):
            with other.answering(protocol, 9000, other.network_of("bob")):
                seen = addresses(one, "ann", "blue")[0 if headers == 28 else 1]
                assert one.ask(protocol, address, 9000, entering=inside) == seen


def test_each_host_is_a_way_out_and_publishes_ports(hosts: Hosts, outside: WireHost) -> None:
    create(hosts[:2], "blue", 61)
    for host in hosts[:2]:
        host.web("web", "--network", "blue", "-p", "8080:80")
        assert outside.ask("http", host.address, 8080) == outside.address
        with outside.answering("tcp", 9000):
            assert host.ask("tcp", outside.address, 9000, entering=host.network_of("web")) == host.address
            assert host.ask("tcp", outside.address6, 9000, entering=host.network_of("web")) == host.address6


def test_hosts_with_gateways_of_their_own_reach_all_containers(hosts: Hosts, outside: WireHost) -> None:
    create(hosts[:2], "blue", 61, own_gateways=True)
    for host in hosts[:2]:
        host.idle("ann", "--network", "blue")
    for host in hosts[:2]:
        found = [address for other in hosts[:2] for address in addresses(other, "ann", "blue")]
        targets = {address: f"ping {address}" for address in found}
        assert answering(host, targets) == set(targets)
        assert outcome(host, f"ping {outside.address}", host.network_of("ann")) == "answered"


def test_nothing_leaves_an_internal_overlay(hosts: Hosts, outside: WireHost) -> None:
    create(hosts[:2], "blue", 61, "--internal")
    for host in hosts[:2]:
        host.web("web", "--network", "blue", "-p", "8080:80")
    near, far = (addresses(host, "web", "blue")[0] for host in hosts[:2])
    inside = hosts[0].network_of("web")
    hosts[0].run(*inside, "ip", "route", "add", "default", "via", "10.61.0.1")
    targets = {"far": f"tcp {far} 80", "world": f"ping {outside.address}", "host": f"ping {hosts[1].address}"}
    assert answering(hosts[0], targets, inside) == {"far"}
    assert outcome(hosts[1], f"tcp {near} 80", hosts[1].network_of("web")) == "answered"
    assert outcome(outside, f"tcp {hosts[0].address} 8080") != "answered"


def test_a_host_that_is_no_peer_gets_nothing_in(hosts: Hosts) -> None:
    """It has the same name and VNI, and sends to them; they do not know it."""
    create(hosts[:2], "blue", 61)
    hosts[0].web("web", "--network", "blue")
    address = addresses(hosts[0], "web", "blue")[0]
    words = ["-o", "type=overlay", "-o", "name=blue", "-o", f"peers={hosts[0].address}", "--subnet", "10.61.0.0/24"]
    hosts[2].docker("network", "create", "-d", hosts[2].drivers.network, *words, "blue")
    hosts[2].idle("eve", "--network", "blue", "--ip", "10.61.0.250")
    assert vni_of(hosts[2], "blue") == vni_of(hosts[0], "blue")
    assert outcome(hosts[2], f"tcp {address} 80", hosts[2].network_of("eve")) != "answered"
    dropped = hosts[0].run("nft", "list", "counter", "inet", "pynet_overlay", "strangers")
    assert "packets 0" not in dropped


@pytest.mark.parametrize("multicast", ["on", "off"])
def test_what_is_for_all_is_carried_to_other_hosts_or_not(lab: Lab, hosts: Hosts, multicast: str) -> None:
    create(hosts[:2], "blue", 61, "-o", f"multicast={multicast}")
    for host in hosts[:2]:
        host.idle("ann", "--network", "blue")
    inside = hosts[0].network_of("ann")
    with captured(lab.wire, PORT) as frames:
        hosts[0].machine.try_run(*inside, "ping", "-b", "-c2", "-W1", "10.61.0.255")
    assert ("ip" in {frame.kind for frame in frames}) == (multicast == "on")
    target = f"ping {addresses(hosts[1], 'ann', 'blue')[0]}"
    assert outcome(hosts[0], target, inside) == "answered"


def test_pynets_own_command_makes_one_network_of_two_hosts(hosts: Hosts) -> None:
    pynet = str(Path(sys.executable).with_name("pynet"))
    peers = ",".join(host.address for host in hosts[:2])
    for host in hosts[:2]:
        words = ("--overlay", "--subnet", "10.61.0.0/24", "--peers", peers, "--driver", host.drivers.network)
        said = host.run("env", f"PATH={host.kind.path()}", pynet, "network", "create", "blue", *words)
        assert said.startswith(f"docker network create -d {host.drivers.network} -o type=overlay -o name=blue")
        host.idle("ann", "--network", "blue")
    near, far = (addresses(host, "ann", "blue")[0] for host in hosts[:2])
    assert near != far
    assert outcome(hosts[0], f"ping {far}", hosts[0].network_of("ann")) == "answered"


def test_flows_go_on_while_the_plugins_are_killed_and_come_back(hosts: Hosts) -> None:
    create(hosts[:2], "blue", 61)
    for host in hosts[:2]:
        host.idle("ann", "--network", "blue")
    with pinging(hosts[0], "ann", addresses(hosts[1], "ann", "blue")[0]) as answers:
        for host in hosts[:2]:
            host.plugins["pynet"].kill()
        time.sleep(0.5)
        for host in hosts[:2]:
            host.plugins["pynet"].start()
        time.sleep(0.5)
    assert longest_gap(answers) < 0.5


BREAK = {
    "entry deleted": "bridge fdb del 00:00:00:00:00:00 dev {device} dst {peer}",
    "device deleted": "ip link del {device}",
    "device down": "ip link set {device} down",
}


@pytest.mark.parametrize("what", BREAK)
def test_what_others_break_is_repaired_at_once(hosts: Hosts, what: str) -> None:
    create(hosts[:2], "blue", 61)
    for host in hosts[:2]:
        host.idle("ann", "--network", "blue")
    target = f"ping {addresses(hosts[1], 'ann', 'blue')[0]}"
    assert outcome(hosts[0], target, hosts[0].network_of("ann")) == "answered"
    device = overlay_device(hosts[0], "blue")
    hosts[0].run("sh", "-ec", BREAK[what].format(device=device, peer=hosts[1].address))
    right = f"00:00:00:00:00:00 dst {hosts[1].address} "
    wait_for("repair", lambda: right in hosts[0].run("sh", "-c", f"bridge fdb show dev {device}; true"), 2.0)
    assert outcome(hosts[0], target, hosts[0].network_of("ann")) == "answered"


def test_a_container_that_moves_keeps_its_addresses_and_is_found(hosts: Hosts) -> None:
    create(hosts, "blue", 61)
    hosts[0].idle("ann", "--network", "blue")
    moving = ("--network", "blue", "--ip", "10.61.0.30", "--mac-address", "02:42:0a:3d:00:1e")
    hosts[1].idle("bob", *moving)
    with pinging(hosts[0], "ann", "10.61.0.30") as answers:
        hosts[1].docker("rm", "-f", "bob")
        hosts[2].idle("bob", *moving)
        there = time.time()
        time.sleep(1.5)
    assert min(answer for answer in answers if answer > there - 0.5) - there < 1.0


def test_a_rebooted_host_is_on_the_network_again(hosts: Hosts) -> None:
    create(hosts[:2], "blue", 61)
    one, other = hosts[:2]
    one.idle("ann", "--network", "blue")
    other.idle("bob", "--network", "blue", "--restart", "always")
    address = addresses(other, "bob", "blue")[0]
    other.reboot()
    other.ensure_running()
    wait_for("bob runs", lambda: other.facts("bob", ".State.Running") == "true", 30)
    assert outcome(one, f"ping {address}", one.network_of("ann")) == "answered"


def test_what_the_user_is_told(hosts: Hosts) -> None:
    host = hosts[0]

    def refused(*options: str) -> str:
        given = [word for option in ("type=overlay", *options) for word in ("-o", option)]
        return host.docker_error(
            "network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", *given, "blue"
        )

    assert "names go from host to host by etcd" in refused("name=blue", "dns=true")
    assert "no route to its peer 2001:db8::1" in refused("name=blue", "peers=2001:db8::1")
    encrypted = refused("name=blue", f"peers={hosts[1].address}", "encrypted=true")
    assert "hosts that only know each other have no place where they could tell their keys" in encrypted
    assert "names nobody but this host" in refused("name=blue", f"peers={host.address}")
    wide = ("name=blue", f"peers={hosts[1].address}", "com.docker.network.driver.mtu=1500")
    assert "leaves 1450" in refused(*wide)


def test_a_host_that_is_alone_has_one_network_of_a_name_and_no_shared_pool(hosts: Hosts) -> None:
    host = hosts[0]
    driver = host.drivers.network
    words = ("network", "create", "-d", driver, "-o", "type=overlay", "-o", "name=blue")
    shared = host.docker_error(*words, "--ipam-driver", driver, "--ipam-opt", "name=blue", "blue")
    assert "pynet runs without a cluster; set PYNET_CLUSTER=etcd://HOST, or leave --ipam-opt name out" in shared
    host.docker(*words, "--subnet", "10.61.0.0/24", "blue")
    # In a cluster they would be one, and one of them would get lost.
    another = host.docker_error(*words, "--subnet", "10.62.0.0/24", "-o", "vni=78", "green")
    assert "has the name blue; choose another -o name" in another
    host.docker("network", "rm", "blue")
    host.docker(*words, "--subnet", "10.62.0.0/24", "-o", "vni=78", "green")
