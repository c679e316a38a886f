"""What a swarm asks of a driver of global scope: VNIs of its managers, nodes as hosts of its overlays."""

import os
from contextlib import closing

import pytest

from netplugin import app
from tests.network.engine import Engine
from tests.network.test_verbs import sh

OWN, FAR, FARTHER = "10.90.0.11", "10.90.0.12", "10.90.0.13"
BLUE, GREEN = "3hxjz3q1leu7bluebluebluebl", "vnkdnjxq56c4greengreengreen"
DEVICE = f"pnx{BLUE[:8]}"


@pytest.fixture
def plugin(netns, state_dir):
    os.system(f"ip link add eth0 type veth peer name wire && ip address add {OWN}/24 dev eth0 && ip link set eth0 up")
    os.system("ip link set wire up")
    with closing(app.Plugin(state_dir, "nftables", scope="global")) as plugin:
        yield plugin


def engine_of(plugin):
    client = plugin.app.test_client()

    def post(path, body):
        answer = client.post(path, data=body)
        return answer.status_code, answer.get_json()

    return Engine(post)


@pytest.fixture
def engine(plugin):
    return engine_of(plugin)


def tell(engine, address, own=False, verb="DiscoverNew"):
    engine.ok(verb, DiscoveryType=1, DiscoveryData={"Address": address, "BindAddress": address, "Self": own})


def allocate(engine, network=BLUE, **options):
    return engine.ok("AllocateNetwork", NetworkID=network, Options={"type": "overlay", **options}, IPv4Data=[])[
        "Options"
    ]


def hosts(device=DEVICE):
    return {line.split()[2] for line in sh(f"bridge fdb show dev {device}").splitlines() if " dst " in line}


def test_the_scope_is_told(engine):
    told = engine.ok("GetCapabilities")
    assert (told["Scope"], told["ConnectivityScope"]) == ("global", "global")


def test_a_bridge_gets_what_was_asked_for(engine):
    answer = engine.ok("AllocateNetwork", NetworkID=BLUE, Options={"anti_spoof": "true"}, IPv4Data=[])
    assert answer["Options"] == {"anti_spoof": "true"}


def test_an_overlay_gets_its_id_as_name_and_a_vni_of_its_own(engine):
    blue = allocate(engine)
    assert blue["name"] == BLUE
    assert 0x500000 <= int(blue["vni"]) < 0x600000
    assert allocate(engine) == blue, "asked again"
    assert allocate(engine, **blue) == blue, "asked again after the manager was restarted"
    # The same name gives the same VNI, unless that is taken.
    assert int(allocate(engine, GREEN, name=BLUE)["vni"]) == int(blue["vni"]) + 1


def test_a_vni_is_given_once(engine):
    assert allocate(engine, vni="77")["vni"] == "77"
    words = {"NetworkID": GREEN, "Options": {"type": "overlay", "vni": "77"}, "IPv4Data": []}
    assert f"VNI 77 on port 14789 is that of network {BLUE[:12]}" in engine.error("AllocateNetwork", **words)
    engine.ok("FreeNetwork", NetworkID=BLUE)
    assert allocate(engine, GREEN, vni="77")["vni"] == "77"


def test_an_option_that_is_none_is_refused_before_anything_is_allocated(engine):
    words = {"NetworkID": BLUE, "Options": {"type": "overlay", "vnii": "7"}, "IPv4Data": []}
    assert "the nearest is vni" in engine.error("AllocateNetwork", **words)
    words["Options"] = {"type": "overlay", "encrypted": "true"}
    assert "nodes of a swarm have no place where they could tell their keys" in engine.error("AllocateNetwork", **words)
    words["Options"] = {"type": "overlay", "dns": "true"}
    assert "the swarm's own DNS knows all tasks" in engine.error("AllocateNetwork", **words)


def test_nodes_are_the_hosts_of_an_overlay(engine, plugin, state_dir):
    tell(engine, OWN, own=True)
    tell(engine, FAR)
    tell(engine, "fd90::12")  # another family than the swarm's
    status, answer = engine.create_network(BLUE, type="overlay", name=BLUE, vni="77")
    assert status == 200, answer
    assert hosts() == {FAR}
    assert f"local {OWN}" in sh(f"ip -d link show {DEVICE}")
    tell(engine, FARTHER)
    assert hosts() == {FAR, FARTHER}
    tell(engine, FAR, verb="DiscoverDelete")
    assert hosts() == {FARTHER}
    sh(f"ip link del {DEVICE}")
    plugin.reconcile()
    assert hosts() == {FARTHER}
    plugin.close()
    with closing(app.Plugin(state_dir, "nftables", scope="global")) as again:
        # An engine does not tell a plugin that was restarted what it has told before.
        tell(engine_of(again), "10.90.0.14")
        assert hosts() == {FARTHER, "10.90.0.14"}
        engine_of(again).ok("DeleteNetwork", NetworkID=BLUE)
    assert DEVICE not in sh("ip link")


def test_outside_of_a_swarm_an_overlay_is_refused(engine):
    _, answer = engine.create_network(BLUE, type="overlay", name="blue")
    assert "the engine has not told which address this node has in the swarm" in answer["Err"]


def test_an_mtu_that_does_not_fit_is_refused(engine):
    tell(engine, OWN, own=True)
    words = {"name": BLUE, "com.docker.network.driver.mtu": "1500"}
    _, answer = engine.create_network(BLUE, type="overlay", **words)
    assert "an MTU of 1500 does not fit" in answer["Err"]


def test_what_is_no_node_is_passed_over(engine):
    engine.ok("DiscoverNew", DiscoveryType=3, DiscoveryData={"Keys": []})
    assert "address 'nowhere'" in engine.error(
        "DiscoverNew", DiscoveryType=1, DiscoveryData={"Address": "nowhere", "Self": False}
    )
