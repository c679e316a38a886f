"""A host that was alone comes into a cluster: its networks go with it, and its containers do not notice."""

from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address

import pytest

from netplugin import app
from netplugin.cluster.directory import Directory
from netplugin.machine import Way
from netplugin.overlay.decide import derived_vni
from tests.cluster.test_directory import BLUE, endpoint
from tests.cluster.test_plugin import DEVICE, FLOOD, OTHER, OWN, PLACE, entries, output, start, wait_for, wire
from tests.network.engine import Engine

__all__ = ["start", "wire"]

OURS = ("pn-", "pnv", "pnc")
ADDRESS = "/pynet/v1/address/blue/10.9.0.9"


@pytest.fixture
def alone(wire, state_dir):
    """The host has made the network blue, with an endpoint, without knowing of any cluster; its pynet has ended."""
    with closing(app.Plugin(state_dir, "nftables", engines=())) as plugin:
        client = plugin.app.test_client()

        def post(path, body):
            answer = client.post(path, data=body)
            return answer.status_code, answer.get_json()

        engine = Engine(post)
        assert engine.create_network(dual=True, type="overlay", name="blue")[0] == 200
        engine.create_endpoint(address="10.9.0.9/24")
        assert entries() == []
        assert "local 127.0.0.1 " in output("ip", "-d", "link", "show", DEVICE)


@pytest.fixture
def elsewhere(etcd):
    """Another host, which is in the cluster already."""
    own = ip_address(OTHER)
    other = Directory(etcd, "other", "host-other", own, 1500, lambda to: Way(own, 1500, to == own))
    other.register()
    return other


def links():
    """The bridge and the endpoint's links, with their indices and MAC addresses."""
    lines = [line.split() for line in output("ip", "-o", "link").splitlines()]
    return [(words[0], words[1], words[words.index("link/ether") + 1]) for words in lines if words[1][:3] in OURS]


def test_its_networks_move_over_and_the_links_of_containers_are_as_they_were(alone, start, server, elsewhere):
    before = links()
    assert len(before) == 3
    start()
    wait_for(lambda: ADDRESS in server.all_keys(), True)
    wait_for(lambda: f"local {OWN} " in output("ip", "-d", "link", "show", DEVICE), True)
    network = elsewhere.join(replace(BLUE, id="f" * 64))
    assert (network.mtu, network.overlay.vni) == (1430, derived_vni("blue"))
    elsewhere.claim(network, endpoint(5))
    wait_for(entries, [FLOOD, PLACE])
    assert links() == before


def test_it_stays_alone_while_the_cluster_has_another_network_of_that_name(alone, start, server, elsewhere):
    elsewhere.join(replace(BLUE, id="f" * 64))
    plugin = start()
    wait_for(lambda: any("/alive/" in key and "other" not in key for key in server.all_keys()), True)
    wait_for(plugin._agent._is_connected, True)
    assert "local 127.0.0.1 " in output("ip", "-d", "link", "show", DEVICE)
    assert ADDRESS not in server.all_keys()
    assert entries() == []
    # What runs there goes on, and when the other one has gone it is taken in.
    elsewhere.leave("blue")
    plugin._agent.look_again()
    wait_for(lambda: ADDRESS in server.all_keys(), True)
