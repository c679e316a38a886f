"""The verbs as dockerd sends them, over HTTP, on a real kernel in a network namespace of its own."""

import subprocess
from contextlib import closing

import pytest

from netplugin import app
from tests.network.engine import Engine, ids, port
from tests.network.samples import ENDPOINT_ID, NETWORK_ID, OTHER_ENDPOINT_ID

pytestmark = pytest.mark.usefixtures("netns")

OTHER_NETWORK_ID = "9a9b9c9d" * 8


@pytest.fixture(params=["iptables", "nftables"])
def firewall(request):
    return request.param


@pytest.fixture
def running(state_dir, firewall):
    with closing(app.Plugin(state_dir, firewall)) as running:
        yield running


@pytest.fixture
def engine(running):
    client = running.app.test_client()

    def post(path, body):
        answer = client.post(path, data=body)
        return answer.status_code, answer.get_json()

    return Engine(post)


def sh(command):
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout


def snapshot():
    rules = "sed -n 's/ \\[.*//; /^-A/p; / -$/p'"
    links = "ip -o link | cut -d: -f2; ip -o addr | cut -d' ' -f2-7"
    tables = "nft list table ip pynet 2>/dev/null; nft list table ip6 pynet 2>/dev/null; true"
    return sh(f"{links}; iptables-save | {rules}; ip6tables-save | {rules}; {tables}")


def links():
    return {line.split(":")[1].split("@")[0].strip() for line in sh("ip -o link").splitlines()}


def test_a_whole_life_leaves_nothing(engine):
    before = snapshot()
    assert engine.create_network(dual=True)[0] == 200
    engine.create_endpoint(address6="fd09::2/64")
    engine.join()
    assert engine.publish(port(80, 8080), port(53, 5353, proto=17), port(81))[0] == 200
    assert snapshot() != before
    engine.stop()
    engine.ok("DeleteNetwork", NetworkID=NETWORK_ID)
    assert snapshot() == before


def test_capabilities_are_spelled_as_docker_wants_them(engine):
    assert engine.ok("GetCapabilities")["Scope"] == "local"


def test_every_step_twice_is_every_step_once(engine):
    for _ in range(2):
        assert engine.create_network()[0] == 200
    for _ in range(2):
        engine.create_endpoint()
    for _ in range(2):
        engine.join()
    for _ in range(2):
        assert engine.publish(port(80, 8080))[0] == 200
    once = snapshot()
    engine.publish(port(80, 8080))
    assert snapshot() == once
    engine.stop()
    engine.stop()
    for _ in range(2):
        engine.ok("DeleteNetwork", NetworkID=NETWORK_ID)
    assert links() == {"lo"}


def test_a_network_that_is_refused_has_put_no_other_one_away(engine):
    engine.create_network()
    engine.create_network(OTHER_NETWORK_ID, subnet="10.8.0")
    status, answer = engine.create_network(subnet="10.8.0")
    assert (status, "it exists with other properties" in answer["Err"]) == (500, True)
    assert links() == {"lo", f"pn-{NETWORK_ID[:8]}", f"pn-{OTHER_NETWORK_ID[:8]}"}


def test_the_mac_address_is_returned_only_if_none_was_asked_for(engine):
    engine.create_network()
    assert engine.create_endpoint()["Interface"]["MacAddress"] == "02:42:0a:09:00:02"
    answer = engine.create_endpoint(OTHER_ENDPOINT_ID, "10.9.0.3/24", mac="02:00:00:00:00:03")
    assert answer == {"Interface": {"Address": "", "AddressIPv6": "", "MacAddress": ""}}
    assert "02:00:00:00:00:03" in sh(f"ip link show pnc{OTHER_ENDPOINT_ID[:8]}")


def test_join_names_the_link_and_the_gateways(engine):
    engine.create_network(dual=True, **{"com.docker.network.container_iface_prefix": "lan"})
    engine.create_endpoint(address6="fd09::2/64")
    answer = engine.join()
    assert answer["InterfaceName"] == {"SrcName": f"pnc{ENDPOINT_ID[:8]}", "DstPrefix": "lan"}
    assert (answer["Gateway"], answer["GatewayIPv6"]) == ("10.9.0.1", "fd09::1")
    assert answer["DisableGatewayService"] is True
    assert answer["InterfaceName"]["SrcName"] in links()


def test_an_internal_network_has_no_gateway_and_publishes_nothing(engine):
    engine.create_network(internal=True)
    engine.create_endpoint()
    assert engine.join()["Gateway"] == ""
    assert engine.publish(port(80, 8080))[0] == 200
    assert "8080" not in sh("ss -lnt; iptables-save")


def test_the_mtu_reaches_bridge_and_both_ends(engine):
    engine.create_network(**{"com.docker.network.driver.mtu": "1380"})
    engine.create_endpoint()
    assert sh("ip link").count("mtu 1380") == 3


def test_publishing_replaces_what_was_published(engine):
    engine.create_network()
    engine.run(port(80, 8080))
    engine.publish(port(80, 9090))
    rules = sh("iptables-save; ss -lnt")
    assert "9090" in rules
    assert "8080" not in rules


def test_a_published_port_of_another_endpoint_is_refused_and_nothing_is_left(engine):
    engine.create_network()
    engine.run(port(80, 8080))
    engine.create_endpoint(OTHER_ENDPOINT_ID, "10.9.0.3/24")
    engine.join(OTHER_ENDPOINT_ID)
    before = snapshot()
    text = engine.error(
        "ProgramExternalConnectivity",
        **ids(OTHER_ENDPOINT_ID),
        Options={"com.docker.network.portmap": [port(81, 8081), port(80, 8080)]},
    )
    assert f"port is already allocated, to endpoint {ENDPOINT_ID[:12]}" in text
    assert snapshot() == before
    assert "8081" not in sh("ss -lnt")
    engine.stop()
    assert engine.publish(port(80, 8080), endpoint_id=OTHER_ENDPOINT_ID)[0] == 200


def test_leave_and_delete_free_the_ports_that_revoke_never_freed(engine):
    engine.create_network()
    engine.run(port(80, 8080))
    engine.ok("Leave", **ids())
    assert "8080" not in sh("ss -lnt; iptables-save")
    assert engine.publish(port(80, 8080))[0] == 200
    engine.ok("DeleteEndpoint", **ids())
    assert "8080" not in sh("ss -lnt; iptables-save")


def test_join_again_after_leave_needs_no_new_endpoint(engine):
    engine.create_network()
    engine.create_endpoint()
    first = engine.join()
    engine.ok("Leave", **ids())
    assert engine.join() == first


def test_a_new_endpoint_gets_the_address_of_a_stale_one(engine):
    engine.create_network()
    engine.run(port(80, 8080))
    engine.create_endpoint(OTHER_ENDPOINT_ID, "10.9.0.2/24")
    assert f"pnv{ENDPOINT_ID[:8]}" not in links()
    assert "8080" not in sh("ss -lnt; iptables-save")


def test_a_network_takes_its_forgotten_endpoints_along(engine):
    before = snapshot()
    engine.create_network()
    engine.run(port(80, 8080))
    engine.ok("DeleteNetwork", NetworkID=NETWORK_ID)
    assert snapshot() == before


def test_the_subnet_of_a_network_whose_deletion_was_missed_can_be_had_again(engine):
    engine.create_network()
    assert engine.create_network(OTHER_NETWORK_ID)[0] == 200
    assert f"pn-{NETWORK_ID[:8]}" not in links()


def test_the_subnet_of_a_network_in_use_is_refused(engine):
    engine.create_network()
    engine.run()
    status, answer = engine.create_network(OTHER_NETWORK_ID)
    assert status == 500
    assert f"overlaps with that of network {NETWORK_ID[:12]}" in answer["Err"]


def test_the_same_network_with_other_properties_is_refused(engine):
    engine.create_network()
    status, answer = engine.create_network(**{"com.docker.network.driver.mtu": "1400"})
    assert status == 500
    assert "exists with other properties" in answer["Err"]


@pytest.mark.parametrize("method", ["CreateEndpoint", "Join", "ProgramExternalConnectivity"])
def test_what_needs_a_network_says_that_it_is_not_known(engine, method):
    text = engine.error(method, **ids(), SandboxKey="/x", Interface={"Address": "10.9.0.2/24"}, Options={})
    assert text.startswith(f"cannot use network {NETWORK_ID[:12]}: this driver never made it")


def test_what_needs_an_endpoint_says_that_it_is_not_known(engine):
    engine.create_network()
    assert engine.error("Join", **ids(), SandboxKey="/x").startswith(f"cannot use endpoint {ENDPOINT_ID[:12]}")


@pytest.mark.parametrize("method", ["Leave", "DeleteEndpoint", "RevokeExternalConnectivity", "EndpointOperInfo"])
def test_to_end_what_is_not_there_succeeds(engine, method):
    engine.ok(method, **ids())


def test_the_ports_that_an_endpoint_got_are_told(engine):
    engine.create_network()
    engine.run(port(80))
    [told] = engine.ok("EndpointOperInfo", **ids())["Value"]["com.docker.network.portmap"]
    assert (told["Proto"], told["Port"], told["HostIP"]) == (6, 80, "0.0.0.0")
    assert f":{told['HostPort']} " in sh("ss -lnt")
    engine.ok("RevokeExternalConnectivity", **ids())
    assert engine.ok("EndpointOperInfo", **ids())["Value"]["com.docker.network.portmap"] == []


def test_swarm_and_discovery_are_answered(engine):
    given = {"anti_spoof": "true"}
    assert engine.ok("AllocateNetwork", NetworkID=NETWORK_ID, Options=given, IPv4Data=[]) == {"Options": given}
    engine.ok("FreeNetwork", NetworkID=NETWORK_ID)
    engine.ok("DiscoverNew", DiscoveryType=1, DiscoveryData={"Address": "192.0.2.1", "Self": True})
    engine.ok("DiscoverDelete", DiscoveryType=1, DiscoveryData={"Address": "192.0.2.1", "Self": False})
    assert engine.ok("GwAllocCheck", Options={}) == {"SkipIPv4": False, "SkipIPv6": False}


def test_a_flush_is_repaired_by_reconcile(engine, running):
    engine.create_network(dual=True)
    engine.run(port(80, 8080))
    right = sorted(snapshot().splitlines())
    sh("iptables -F; iptables -t nat -F; ip6tables -F; ip link del pn-1a2b3c4d; ip link set lo up")
    running.reconcile()
    assert sorted(snapshot().splitlines()) == right


def test_an_endpoint_whose_sandbox_died_is_forgotten(engine, running):
    engine.create_network()
    idle = snapshot()
    engine.run(port(80, 8080))
    sandbox = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE)
    sandbox.stdout.readline()
    sh(f"ip link set pnc{ENDPOINT_ID[:8]} netns {sandbox.pid}")
    running.reconcile()
    assert f"pnv{ENDPOINT_ID[:8]}" in links()
    sandbox.kill()
    sandbox.communicate()
    sh(f"while ip link show pnv{ENDPOINT_ID[:8]} 2>/dev/null >&2; do sleep 0.05; done")
    running.reconcile()
    assert snapshot() == idle
    assert "8080" not in sh("ss -lnt")


def test_a_dead_endpoint_gives_up_its_port_to_the_next(engine):
    engine.create_network()
    engine.run(port(80, 8080))
    sh(f"ip link del pnv{ENDPOINT_ID[:8]}")
    engine.create_endpoint(OTHER_ENDPOINT_ID, "10.9.0.3/24")
    engine.join(OTHER_ENDPOINT_ID)
    assert engine.publish(port(80, 8080), endpoint_id=OTHER_ENDPOINT_ID)[0] == 200


def test_links_that_nobody_wants_are_swept_and_those_of_others_are_not(running):
    sh("ip link add pn-00000000 type bridge; ip link add pnv00000000 type veth peer name pnc00000000")
    sh("ip link add br-other type bridge; ip link add pn-11111111 type bridge; ip link set pn-11111111 alias keep")
    running.reconcile()
    assert links() == {"lo", "br-other", "pn-11111111"}


def test_a_restart_finds_everything(engine, running, state_dir, firewall):
    engine.create_network(dual=True)
    engine.run(port(80, 8080))
    right = snapshot()
    running.close()
    with closing(app.Plugin(state_dir, firewall)) as successor:
        assert snapshot() == right
        assert ":8080" in sh("ss -lnt")
        client = successor.app.test_client()
        post = lambda path, body: (200, client.post(path, data=body).get_json())  # noqa: E731
        Engine(post).stop()
        assert links() == {"lo", f"pn-{NETWORK_ID[:8]}"}


def test_an_existing_bridge_keeps_what_it_had(engine):
    sh("ip link add lan7 type bridge && ip address add 10.9.0.1/24 dev lan7 && ip link set lan7 up")
    before = snapshot()
    assert engine.create_network(**{"com.docker.network.bridge.name": "lan7"}, dual=True)[0] == 200
    assert "fd09::1/64" in sh("ip -o address show dev lan7")
    engine.ok("DeleteNetwork", NetworkID=NETWORK_ID)
    assert snapshot() == before


def test_a_route_is_not_given_to_the_container_that_it_leads_to(engine):
    engine.create_network(routes="192.0.2.0/24 via 10.9.0.3")
    for endpoint_id, address, routes in ((ENDPOINT_ID, "10.9.0.2/24", 1), (OTHER_ENDPOINT_ID, "10.9.0.3/24", 0)):
        engine.create_endpoint(endpoint_id, address)
        assert len(engine.join(endpoint_id)["StaticRoutes"]) == routes


def test_a_port_of_our_choice_moves_with_the_container_to_another_network(engine, running):
    engine.create_network()
    engine.create_network(OTHER_NETWORK_ID, subnet="10.8.0")
    engine.run(port(80))
    before = host_ports(running)
    engine.create_endpoint(OTHER_ENDPOINT_ID, "10.8.0.2/24", network=OTHER_NETWORK_ID)
    other = ids(OTHER_ENDPOINT_ID, OTHER_NETWORK_ID)
    engine.ok("Join", **other, SandboxKey="/var/run/docker/netns/0123456789ab", Options={})
    engine.ok("RevokeExternalConnectivity", **ids())
    engine.ok("ProgramExternalConnectivity", **other, Options={"com.docker.network.portmap": [port(80)]})
    assert host_ports(running) == before
    assert len(before) == 1


def host_ports(running):
    return {held.port for held in running._ports.owned()}


def test_an_endpoint_is_known_under_its_own_network_alone(engine):
    other = "f" * 64
    engine.create_network()
    engine.run(port(80, 8080))
    assert engine.create_network(other, subnet="10.10.0")[0] == 200
    text = engine.error("CreateEndpoint", **ids(network_id=other), Interface={"Address": "10.10.0.2/24"}, Options={})
    assert text == f"cannot create endpoint {ENDPOINT_ID[:12]}: another network has it; delete it there"
    assert engine.error("Join", **ids(network_id=other), SandboxKey="/x").startswith("cannot use endpoint")
    for method in ("RevokeExternalConnectivity", "Leave", "DeleteEndpoint"):
        engine.ok(method, **ids(network_id=other))
    assert engine.ok("EndpointOperInfo", **ids())["Value"]["com.docker.network.portmap"][0]["HostPort"] == 8080
    assert engine.ok("EndpointOperInfo", **ids(network_id=other))["Value"]["com.docker.network.portmap"] == []
