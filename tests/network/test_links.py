"""Bridges and veth pairs in a real network namespace."""

import os
import resource
import subprocess
import tracemalloc  # pytest needs it when there are no descriptors left
from dataclasses import replace
from ipaddress import ip_interface

import pytest

from netplugin.firewall.backends import BACKENDS
from netplugin.kernel.bridge import Bridges
from netplugin.kernel.links import Veths
from netplugin.kernel.netlink import Netlink
from netplugin.plan import plan_endpoint, plan_network
from netplugin.resources import Bridge, Veth
from pluginkit.errors import Conflict, Exhausted, KernelError, NotFound
from tests.network.samples import WEB, endpoint, network

pytestmark = pytest.mark.usefixtures("netns")

BRIDGE = next(want for want in plan_network(network(dual=True), BACKENDS["iptables"]) if isinstance(want, Bridge))
VETH = next(want for want in plan_endpoint(endpoint(WEB), network(), BACKENDS["iptables"]) if isinstance(want, Veth))


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


def kernel_view():
    """Return links and addresses without what changes by itself: indices, queue and timer figures, random MACs."""
    links = [line.split(":", 1)[1].split(" group ")[0] for line in ip("-o", "link").splitlines()]
    addresses = [line.split(":", 1)[1].split("valid_lft")[0] for line in ip("-o", "addr").splitlines()]
    return links, addresses


@pytest.fixture
def bridges(netlink):
    return Bridges(netlink)


@pytest.fixture
def veths(netlink):
    return Veths(netlink)


def test_no_answer_is_kept_for_which_nobody_waits(netlink, bridges):
    bridges.ensure(BRIDGE)
    for _ in range(3):
        assert netlink.link(BRIDGE.name)
        assert netlink.link("nosuch") is None
    with netlink.request("look at", "what is left") as socket:
        socket.link("get", ifname=BRIDGE.name)
    assert socket.asyncore.msg_queue.root.empty()


# What pyroute2 had made by then cannot be taken down in order.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("netns")
def test_without_a_descriptor_for_the_socket_the_kernel_is_said_to_refuse():
    netlink = Netlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert not tracemalloc.is_tracing()
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(KernelError, match="cannot look up lo: Too many open files"):
            netlink.link("lo")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert netlink.link("lo") is not None
    netlink.close()


def test_a_bridge_is_up_with_its_addresses(bridges):
    bridges.ensure(BRIDGE)
    text = ip("addr", "show", BRIDGE.name)
    assert "mtu 1500" in text
    assert ",UP" in text
    assert BRIDGE.mac in text
    assert "inet 10.9.0.1/24" in text
    assert "inet6 fd09::1/64 scope global nodad" in text
    assert f"alias {BRIDGE.alias}" in ip("link", "show", BRIDGE.name)


def test_to_ensure_a_bridge_twice_is_to_ensure_it_once(bridges):
    bridges.ensure(BRIDGE)
    once = kernel_view()
    bridges.ensure(BRIDGE)
    assert kernel_view() == once


@pytest.mark.parametrize(
    "drift",
    [
        ("link", "set", BRIDGE.name, "down"),
        ("link", "set", BRIDGE.name, "mtu", "1300"),
        ("link", "set", BRIDGE.name, "address", "02:00:00:00:00:99"),
        ("addr", "flush", "dev", BRIDGE.name),
        ("addr", "add", "10.77.0.1/24", "dev", BRIDGE.name),
        ("link", "set", BRIDGE.name, "alias", ""),
    ],
)
def test_drift_of_a_bridge_is_put_right(bridges, drift):
    bridges.ensure(BRIDGE)
    # A link-local address comes a moment after the link is up, and is not ours to compare.
    right = [line for line in ip("-o", "addr").splitlines() if "fe80" not in line], ip("link", "show", BRIDGE.name)
    ip(*drift)
    bridges.ensure(BRIDGE)
    assert (
        [line for line in ip("-o", "addr").splitlines() if "fe80" not in line],
        ip("link", "show", BRIDGE.name),
    ) == right


def test_a_removed_bridge_leaves_nothing_and_is_removed_again(bridges):
    before = kernel_view()
    bridges.ensure(BRIDGE)
    assert [have.key for have in bridges.owned()] == [BRIDGE.key]
    bridges.remove(BRIDGE)
    bridges.remove(BRIDGE)
    assert kernel_view() == before
    assert list(bridges.owned()) == []


@pytest.mark.parametrize("kind", ["bridge", "dummy_or_veth"])
def test_a_link_of_somebody_else_is_left_alone(bridges, kind):
    if kind == "bridge":
        ip("link", "add", BRIDGE.name, "type", "bridge")
        ip("link", "set", BRIDGE.name, "alias", "mine, hands off")
    else:
        ip("link", "add", BRIDGE.name, "type", "veth", "peer", "name", "other")
    with pytest.raises(Conflict, match=f"cannot create bridge {BRIDGE.name}: a link of that name exists"):
        bridges.ensure(BRIDGE)
    assert list(bridges.owned()) == []
    assert BRIDGE.name in ip("link")


def test_a_bridge_without_an_alias_was_interrupted_and_is_ours(bridges):
    ip("link", "add", BRIDGE.name, "type", "bridge")
    assert [have.key for have in bridges.owned()] == [BRIDGE.key]
    bridges.ensure(BRIDGE)
    assert f"alias {BRIDGE.alias}" in ip("link", "show", BRIDGE.name)


def test_a_bridge_changes_its_addresses(bridges):
    bridges.ensure(BRIDGE)
    bridges.ensure(replace(BRIDGE, addresses=(ip_interface("10.9.0.254/24"),)))
    assert "10.9.0.254/24" in ip("addr", "show", BRIDGE.name)
    assert "10.9.0.1/24" not in ip("addr", "show", BRIDGE.name)
    assert "fd09::1" not in ip("addr", "show", BRIDGE.name)


def test_a_pair_is_in_the_bridge_and_its_other_end_is_here(bridges, veths):
    bridges.ensure(BRIDGE)
    veths.ensure(VETH)
    text = ip("-d", "link", "show", VETH.name)
    assert f"master {BRIDGE.name}" in text
    assert ",UP" in text
    assert "hairpin on" in text
    assert "isolated off" in text
    assert f"alias {VETH.alias}" in text
    assert VETH.peer_mac in ip("link", "show", VETH.peer)


@pytest.mark.parametrize(
    "change", [{"hairpin": False}, {"isolated": True}, {"hairpin": False, "isolated": True}, {"mtu": 1400}]
)
def test_a_pair_changes_its_flags_and_mtu(bridges, veths, change):
    bridges.ensure(BRIDGE)
    veths.ensure(VETH)
    want = replace(VETH, **change)
    veths.ensure(want)
    text = ip("-d", "link", "show", VETH.name)
    assert f"hairpin {'on' if want.hairpin else 'off'}" in text
    assert f"isolated {'on' if want.isolated else 'off'}" in text
    assert f"mtu {want.mtu}" in text


def test_to_ensure_a_pair_twice_is_to_ensure_it_once(bridges, veths):
    bridges.ensure(BRIDGE)
    veths.ensure(VETH)
    once = kernel_view()
    veths.ensure(VETH)
    assert kernel_view() == once


def test_a_pair_taken_out_of_the_bridge_is_put_back(bridges, veths):
    bridges.ensure(BRIDGE)
    veths.ensure(VETH)
    ip("link", "set", VETH.name, "nomaster", "down")
    veths.ensure(VETH)
    text = ip("-d", "link", "show", VETH.name)
    assert f"master {BRIDGE.name}" in text
    assert ",UP" in text
    assert "hairpin on" in text


def test_a_pair_whose_end_has_moved_is_deleted_wherever_the_end_is(bridges, veths):
    bridges.ensure(BRIDGE)
    veths.ensure(VETH)
    sandbox = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE)
    try:
        sandbox.stdout.readline()
        ip("link", "set", VETH.peer, "netns", str(sandbox.pid))
        veths.ensure(VETH)
        veths.remove(VETH)
        inside = ["nsenter", f"--net=/proc/{sandbox.pid}/ns/net", "ip", "-o", "link"]
        assert "pnc" not in subprocess.run(inside, capture_output=True, text=True, check=True).stdout
        assert VETH.name not in ip("link")
    finally:
        sandbox.kill()
        sandbox.communicate()


def test_a_pair_without_its_bridge_says_so(veths):
    with pytest.raises(NotFound, match=f"the bridge {BRIDGE.name} is gone"):
        veths.ensure(VETH)


def test_a_peer_name_that_is_taken_is_a_conflict(bridges, veths):
    bridges.ensure(BRIDGE)
    ip("link", "add", VETH.peer, "type", "bridge")
    with pytest.raises(Conflict, match=f"a link named {VETH.peer} exists already"):
        veths.ensure(VETH)


def test_a_link_of_another_endpoint_is_left_alone(bridges, veths):
    bridges.ensure(BRIDGE)
    veths.ensure(VETH)
    with pytest.raises(Conflict, match="belongs to pynet endpoint"):
        veths.ensure(replace(VETH, alias="pynet endpoint of the same first digits"))


def test_pairs_are_listed_by_name_and_alias(bridges, veths):
    bridges.ensure(BRIDGE)
    veths.ensure(VETH)
    ip("link", "add", "pnv-not-ours", "type", "veth", "peer", "name", "x1")
    ip("link", "add", "pnv00000000", "type", "veth", "peer", "name", "x2")
    ip("link", "set", "pnv00000000", "alias", "hands off")
    assert [have.key for have in veths.owned()] == [VETH.key]


def test_a_full_bridge_says_so_and_leaves_no_pair(bridges, veths):
    bridges.ensure(BRIDGE)
    lines = [f"link add v{n} master {BRIDGE.name} type veth peer name w{n}" for n in range(1023)]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
    with pytest.raises(Exhausted, match=f"bridge {BRIDGE.name} has 1023 ports, and the kernel allows no more"):
        veths.ensure(VETH)
    assert VETH.name not in ip("link")
