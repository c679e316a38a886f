"""Encrypted overlays of real engines and a real etcd: what is on the wire, and what happens to those who carry it."""

import json

import pytest
from scapy.layers.inet import UDP
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from integration.lab.circumstances import answering, outcome
from integration.lab.deadline import wait_for
from integration.lab.fleet import WAYS, longest_gap, pinging, recorded
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.test_cluster import addresses, create, device_of, entries, hosts

Hosts = tuple[Host, ...]
__all__ = ["hosts"]
LINK, PORT, CLEAR = "pnwg0", 14790, 14789
SECRET = b"not for everybod"


def carrier(host: Host) -> int:
    """The process that carries the host's link, 0 if there is none: then the kernel does, or nobody."""
    said = host.machine.try_run("pgrep", "-f", f"^wireguard-go {LINK}$").stdout.split()
    return int(said[0]) if said else 0


def in_the_clear(frames: list[Packet]) -> set[int]:
    """The VNIs of VXLAN packets."""
    clear = [frame for frame in frames if frame[UDP].dport == CLEAR]
    return {VXLAN(bytes(frame[UDP].payload)).vni for frame in clear} - {WAYS}


def vni_of(host: Host, network: str) -> int:
    [link] = json.loads(host.run("ip", "-json", "-details", "link", "show", "dev", device_of(host, network)))
    return int(link["linkinfo"]["info_data"]["id"])


@pytest.fixture
def two(hosts: Hosts) -> Hosts:
    """Two hosts with an encrypted network and one that is not, with a container of its name on each."""
    create(hosts[:2], "blue", 61, "-o", "encrypted=true")
    create(hosts[:2], "green", 62)
    for host in hosts[:2]:
        for network in ("blue", "green"):
            host.web(network, "--network", network)
    for host in hosts[:2]:
        wait_for("the other one is known", lambda h=host: len(entries(h, "blue")) == 2, 5)
    return hosts[:2]


def test_containers_reach_each_other_and_the_wire_shows_wireguard(lab: Lab, two: Hosts) -> None:
    places = {
        address: network
        for host in two
        for network in ("blue", "green")
        for address in addresses(host, network, network)
    }
    with recorded(lab.wire, "udp") as frames:
        for host in two:
            theirs = {address for address, network in places.items() if network == "blue"}
            targets = {address: f"tcp {address} 80" for address in places}
            assert answering(host, targets, host.network_of("blue")) == theirs, host.name
        far = addresses(two[1], "blue", "blue")[0]
        inside = two[0].network_of("blue")
        # The largest packet that fits, and none that does not.
        two[0].run(*inside, "ping", "-c1", "-W2", "-M", "do", "-s", str(1370 - 28), "-p", SECRET.hex(), far)
        assert two[0].machine.try_run(*inside, "ping", "-c1", "-W1", "-M", "do", "-s", "1343", far).returncode
    assert vni_of(two[0], "blue") not in in_the_clear(frames)
    assert len([frame for frame in frames if frame[UDP].dport == PORT]) > 20
    assert not [frame for frame in frames if SECRET in bytes(frame)]
    # What shows cleartext shows it where there is some.
    with recorded(lab.wire, "udp") as frames:
        green = addresses(two[1], "green", "green")[0]
        two[0].run(*two[0].network_of("green"), "ping", "-c1", "-W2", "-p", SECRET.hex(), green)
    assert in_the_clear(frames) == {vni_of(two[0], "green")}
    assert [frame for frame in frames if SECRET in bytes(frame)]


@pytest.mark.long
def test_flows_go_on_while_pynet_is_killed_and_its_successor_finds_the_link(two: Hosts) -> None:
    far = addresses(two[1], "blue", "blue")[0]
    before = [(carrier(host), host.run("wg", "show", LINK, "public-key")) for host in two]
    with pinging(two[0], "blue", far) as answers:
        for host in two:
            host.plugins["pynet"].kill()
        for host in two:
            host.plugins["pynet"].start()
        two[1].idle("ann", "--network", "blue")
        ann = addresses(two[1], "ann", "blue")[0]
        wait_for("ann is reached", lambda: outcome(two[0], f"ping {ann}", two[0].network_of("blue")) == "answered", 10)
    assert longest_gap(answers) < 0.5
    assert [(carrier(host), host.run("wg", "show", LINK, "public-key")) for host in two] == before


@pytest.mark.long
@pytest.mark.parametrize("what", ["its carrier killed", "the link deleted", "the link down"])
def test_what_becomes_of_the_link_is_put_right_at_once(lab: Lab, two: Hosts, what: str) -> None:
    host, far = two[0], addresses(two[1], "blue", "blue")[0]
    reach = f"ping {far}"
    assert outcome(host, reach, host.network_of("blue")) == "answered"
    with recorded(lab.wire, "udp") as frames:
        if what == "its carrier killed" and (pid := carrier(host)):
            host.run("kill", "-9", str(pid))
        elif what == "the link down":
            host.run("ip", "link", "set", LINK, "down")
        else:
            host.run("ip", "link", "del", LINK)
        wait_for("it is reached", lambda: outcome(host, reach, host.network_of("blue")) == "answered", 10)
    assert vni_of(host, "blue") not in in_the_clear(frames)


@pytest.mark.long
def test_the_link_goes_with_the_last_encrypted_network(two: Hosts) -> None:
    host = two[0]
    create((host,), "red", 63, "-o", "encrypted=true")
    assert len(host.run("ip", "-6", "-o", "addr", "show", "dev", LINK, "scope", "global").splitlines()) == 2
    host.docker("rm", "-f", "blue")
    host.docker("network", "rm", "blue")
    assert not host.run("wg", "show", LINK, "peers")
    host.docker("network", "rm", "red")
    assert host.machine.try_run("ip", "link", "show", LINK).returncode
    wait_for("nobody carries it", lambda: not carrier(host))
