"""pynet on one host, its kernel, and an etcd in which another host speaks."""

import subprocess
import time
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address

import pytest

from netplugin import app
from netplugin.cluster import keys
from netplugin.cluster.access import ClusterSettings
from netplugin.cluster.directory import Directory
from netplugin.cluster.etcd import Delete, Put
from netplugin.machine import Way
from tests.cluster.test_directory import BLUE, endpoint
from tests.network.engine import Engine
from tests.network.samples import ENDPOINT_ID, NETWORK_ID

DEVICE, BRIDGE = f"pnx{NETWORK_ID[:8]}", f"pn-{NETWORK_ID[:8]}"
OWN, OTHER = "10.90.0.11", "10.90.0.12"
MAC = endpoint(5).mac
FLOOD = f"00:00:00:00:00:00 dst {OTHER}"
PLACE = f"{MAC} dst {OTHER}"
KNOWN = [f"10.9.0.5 {MAC}", f"fd09::5 {MAC}"]


def output(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def entries():
    """Where frames are sent, without the word self and what follows."""
    shown = output("bridge", "fdb", "show", "dev", DEVICE).splitlines()
    return sorted(line.partition(" self")[0] for line in shown if " dst " in line)


def neighbours():
    words = [line.split() for line in output("ip", "neigh", "show", "dev", BRIDGE, "nud", "permanent").splitlines()]
    return sorted(f"{word[0]} {word[2]}" for word in words)


def wait_for(ask, wanted, patience_s=8.0):
    deadline = time.monotonic() + patience_s
    while (found := ask()) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


@pytest.fixture
def wire(netns):
    make = "ip link add wire0 mtu 1500 type veth peer name wire1; ip link set wire0 up; ip link set wire1 up"
    subprocess.run(["sh", "-ec", f"{make}; ip addr add {OWN}/24 dev wire0"], check=True)


@pytest.fixture
def start(wire, server, state_dir):
    """Call it for a pynet whose engine has made the network blue; what it was is closed at the end."""
    running = []

    def start(engines=()):
        settings = ClusterSettings(f"etcd://127.0.0.1:{server.port}", vtep=OWN)
        plugin = app.Plugin(state_dir, "nftables", cluster=settings, engines=engines)
        running.append(plugin)
        client = plugin.app.test_client()

        def post(path, body):
            answer = client.post(path, data=body)
            return answer.status_code, answer.get_json()

        plugin.engine = Engine(post)
        return plugin

    yield start
    for plugin in running:
        plugin.close()


@pytest.fixture
def plugin(start):
    plugin = start()
    wait_for(lambda: plugin.engine.create_network(dual=True, type="overlay", name="blue")[0], 200)
    return plugin


@pytest.fixture
def other(plugin, etcd):
    """The other host, which is on the network with an endpoint."""
    own = ip_address(OTHER)
    other = Directory(etcd, "other", "host-other", own, 1500, lambda to: Way(own, 1500, to == own))
    other.register()
    other.claim(other.join(replace(BLUE, id="f" * 64)), endpoint(5))
    return other


def test_what_the_other_host_says_is_in_the_kernel_until_it_says_otherwise(plugin, other):
    wait_for(entries, [FLOOD, PLACE])
    wait_for(neighbours, KNOWN)
    other.release("blue", endpoint(5).id)
    wait_for(neighbours, [])
    wait_for(entries, [FLOOD])
    other.leave("blue")
    wait_for(entries, [])


def test_what_is_unreadable_in_etcd_keeps_nothing_out(plugin, other, etcd):
    wait_for(entries, [FLOOD, PLACE])
    for key in ("at/blue/endpoint/x", "at/blue/host/x", "at/blue/else/x", "at/strange"):
        etcd.transact([], [Put(f"{keys.PREFIX}{key}", b"{")])
    other.claim(other.join(replace(BLUE, id="f" * 64)), endpoint(6))
    wait_for(lambda: len(entries()), 3)
    plugin._agent.look_again()
    other.release("blue", endpoint(6).id)
    wait_for(entries, [FLOOD, PLACE])


def test_a_pynet_that_starts_while_etcd_is_away_keeps_what_it_knew(plugin, other, server, start):
    wait_for(neighbours, KNOWN)
    plugin.close()
    server.stop()
    with closing(start()) as successor:
        successor.reconcile()
        assert (entries(), neighbours()) == ([FLOOD, PLACE], KNOWN)
        status, answer = successor.engine.call(
            "CreateEndpoint", NetworkID=NETWORK_ID, EndpointID=ENDPOINT_ID, Interface={"Address": "10.9.0.9/24"}
        )
        assert (status, answer["Err"].partition(":")[0]) == (500, "cannot ask etcd")
        server.start()
        other.release("blue", endpoint(5).id)
        wait_for(entries, [FLOOD])


def test_when_etcd_has_lost_everything_each_says_again_what_is_its_own(plugin, other, server, etcd):
    plugin.engine.create_endpoint(address="10.9.0.9/24")
    right = server.all_keys()
    assert "/pynet/v1/address/blue/10.9.0.9" in right
    etcd.transact([], [Delete(key) for key in right])
    plugin._agent.look_again()
    wait_for(lambda: "/pynet/v1/address/blue/10.9.0.9" in server.all_keys(), True)


def test_what_a_verb_could_not_tell_is_told_later(plugin, other, server, etcd):
    plugin.engine.create_endpoint(address="10.9.0.9/24")
    server.stop()
    plugin.engine.ok("DeleteEndpoint", NetworkID=NETWORK_ID, EndpointID=ENDPOINT_ID)
    server.start()
    wait_for(lambda: [key for key in server.all_keys() if ENDPOINT_ID in key or "10.9.0.9" in key], [])


def test_a_network_that_is_deleted_leaves_nothing_here_and_nothing_there(plugin, other, server):
    wait_for(neighbours, KNOWN)
    plugin.engine.ok("DeleteNetwork", NetworkID=NETWORK_ID)
    assert DEVICE not in output("ip", "link")
    wait_for(lambda: [key for key in server.all_keys() if "/at/blue/host/" in key], ["/pynet/v1/at/blue/host/other"])


FALSE = {
    "neighbour deleted": f"ip neigh del 10.9.0.5 dev {BRIDGE}",
    "neighbour falsified": f"ip neigh replace 10.9.0.5 lladdr 02:00:00:00:00:66 dev {BRIDGE} nud permanent",
    "neighbour added": f"ip neigh add 10.9.0.66 lladdr 02:00:00:00:00:66 dev {BRIDGE} nud permanent",
    "entry deleted": f"bridge fdb del {MAC} dev {DEVICE} dst {OTHER} self",
    "bridge's part deleted": f"bridge fdb del {MAC} dev {DEVICE} master",
    "bridge's part falsified": f"bridge fdb del {MAC} dev {DEVICE} master; bridge fdb add {MAC} dev {BRIDGE} self",
    "entry falsified": f"bridge fdb replace {MAC} dev {DEVICE} dst 10.90.0.66 self permanent",
    "device deleted": f"ip link del {DEVICE}",
}


@pytest.mark.parametrize("command", FALSE.values(), ids=FALSE)
def test_what_is_false_is_put_right(plugin, other, command):
    wait_for(neighbours, KNOWN)
    behind = output("bridge", "fdb", "show", "br", BRIDGE)
    assert plugin._monitor.look() == ""
    subprocess.run(["sh", "-ec", command], check=True)
    wait_for(lambda: bool(plugin._monitor.look()), True, 2)
    plugin.reconcile()
    assert (entries(), neighbours()) == ([FLOOD, PLACE], KNOWN)
    assert f"{MAC} dev {DEVICE} sticky master {BRIDGE} static" in output("bridge", "fdb", "show", "br", BRIDGE)
    assert f"{MAC} dev {DEVICE} sticky master {BRIDGE} static" in behind


def test_what_we_do_ourselves_is_no_fault(plugin, other):
    wait_for(neighbours, KNOWN)
    for number in range(6, 12):
        other.claim(other.join(replace(BLUE, id="f" * 64)), endpoint(number))
        other.release("blue", endpoint(number).id)
        assert plugin._monitor.look() == ""
    wait_for(entries, [FLOOD, PLACE])
    assert plugin._monitor.look() == ""
