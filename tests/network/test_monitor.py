"""What others do to our things is noticed, and what we do ourselves is not."""

import subprocess
import time
from contextlib import closing

import pytest

from netplugin import app
from tests.network.engine import Engine, port
from tests.network.samples import ENDPOINT_ID, NETWORK_ID
from tests.network.test_verbs import snapshot

pytestmark = pytest.mark.usefixtures("netns")

BRIDGE = f"pn-{NETWORK_ID[:8]}"
OTHER_NETWORK_ID = "0a0b0c0d" * 8


@pytest.fixture(params=["iptables", "nftables"])
def plugin(request, state_dir):
    with closing(app.Plugin(state_dir, request.param)) as plugin:
        client = plugin.app.test_client()
        engine = Engine(lambda path, body: (client.post(path, data=body).status_code, {}))
        engine.create_network(dual=True)
        engine.create_endpoint()
        engine.join()
        engine.publish(port(80, 8080))
        plugin.engine = engine
        yield plugin


def sh(command):
    subprocess.run(["sh", "-c", command], check=True)


def notice(monitor, patience_s=2.0):
    """Return what is noticed in time, "" if nothing is."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if what := monitor.look():
            return what
        time.sleep(0.02)
    return ""


DRIFTS = {
    "bridge deleted": (f"ip link del {BRIDGE}", "the link of pynet network"),
    "bridge down": (f"ip link set {BRIDGE} down", "the link of pynet network"),
    "veth deleted": (f"ip link del pnv{ENDPOINT_ID[:8]}", "the link of pynet endpoint"),
    "address deleted": (f"ip addr del 10.9.0.1/24 dev {BRIDGE}", "the address 10.9.0.1"),
    "IPv6 address deleted": (f"ip addr del fd09::1/64 dev {BRIDGE}", "the address fd09::1"),
    "forwarding off": ("sysctl -qw net.ipv4.ip_forward=0", "the forwarding of ipv4 packets"),
    "IPv6 forwarding off": ("sysctl -qw net.ipv6.conf.all.forwarding=0", "the forwarding of ipv6 packets"),
    "filter flushed": ("iptables -F", "the firewall"),
    "a rule put before ours": ("iptables -I FORWARD -i lo -j ACCEPT", "the order of the firewall"),
    "ruleset flushed": ("nft flush ruleset", "the firewall"),
}


@pytest.mark.parametrize(("command", "what"), DRIFTS.values(), ids=DRIFTS)
def test_what_others_do_is_noticed_and_put_right(plugin, command, what):
    right = snapshot().splitlines()
    plugin._monitor.look()
    sh(command)
    assert notice(plugin._monitor).startswith(what)
    plugin.reconcile()
    # An endpoint whose link was deleted is over; everything else is as it was.
    expected = [] if "link del pnv" in command else right
    assert not set(expected) - set(snapshot().splitlines())


OVERLAY = {"type": "overlay", "name": "blue", "peers": "10.90.0.11,10.90.0.12"}
DEVICE = f"pnx{OTHER_NETWORK_ID[:8]}"
EVERYBODY = f"00:00:00:00:00:00 dev {DEVICE} dst"
OVERLAY_DRIFTS = {
    "entry deleted": (f"bridge fdb del {EVERYBODY} 10.90.0.12", f"the entry {DEVICE} 00:00:00:00:00:00 10.90.0.12"),
    "entry added": (f"bridge fdb append {EVERYBODY} 10.90.0.66", f"the entry {DEVICE} 00:00:00:00:00:00 10.90.0.66"),
    "device deleted": (f"ip link del {DEVICE}", "the link of pynet network"),
    "device down": (f"ip link set {DEVICE} down", "the link of pynet network"),
}


@pytest.fixture
def overlay(plugin):
    """The plugin has an overlay too, with one peer on a wire."""
    sh("ip link add wire0 type veth peer name wire1; ip addr add 10.90.0.11/24 dev wire0; ip link set wire0 up")
    status, answer = plugin.engine.create_network(OTHER_NETWORK_ID, subnet="10.8.0", **OVERLAY)
    assert status == 200, answer
    return plugin


def entries():
    done = subprocess.run(["bridge", "fdb", "show", "dev", DEVICE], check=True, capture_output=True, text=True)
    return sorted(line for line in done.stdout.splitlines() if " dst " in line)


@pytest.mark.parametrize(("command", "what"), OVERLAY_DRIFTS.values(), ids=OVERLAY_DRIFTS)
def test_what_others_do_to_an_overlay_is_noticed_and_put_right(overlay, command, what):
    right = entries()
    overlay._monitor.look()
    sh(command)
    assert notice(overlay._monitor).startswith(what)
    overlay.reconcile()
    assert entries() == right == ["00:00:00:00:00:00 dst 10.90.0.12 self permanent"]


def test_what_an_overlay_learns_and_what_we_do_to_it_is_not_noticed(overlay):
    assert notice(overlay._monitor, 0.3) == ""
    sh(f"bridge fdb add 02:00:00:00:00:50 dev {DEVICE} dst 10.90.0.12 self dynamic")
    overlay.reconcile()
    overlay.engine.ok("DeleteNetwork", NetworkID=OTHER_NETWORK_ID)
    assert notice(overlay._monitor, 0.5) == ""
    assert DEVICE not in subprocess.run(["ip", "link"], check=True, capture_output=True, text=True).stdout


def test_what_we_do_is_not_noticed(plugin):
    plugin._monitor.look()
    plugin.engine.publish(port(81, 8081))
    plugin.engine.stop()
    plugin.engine.ok("DeleteNetwork", NetworkID=NETWORK_ID)
    assert notice(plugin._monitor, 0.5) == ""


def test_what_others_do_while_we_do_something_is_noticed(plugin):
    plugin.engine.publish(port(81, 8081))
    plugin._monitor.look()
    plugin.engine.publish(port(80, 8080))
    sh("iptables -I FORWARD -i lo -j ACCEPT")
    assert notice(plugin._monitor) == "the order of the firewall's rules"


def test_what_others_do_to_their_own_things_is_not_noticed(plugin):
    plugin._monitor.look()
    sh("ip link add other type bridge; ip link set other up; ip link del other")
    sh("iptables -A FORWARD -i lo -j ACCEPT; iptables -D FORWARD -i lo -j ACCEPT")
    sh("nft add table inet theirs; nft delete table inet theirs")
    sh("sysctl -qw net.ipv6.conf.lo.forwarding=0 net.ipv4.conf.lo.forwarding=0")
    assert notice(plugin._monitor, 0.5) == ""
