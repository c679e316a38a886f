"""The verbs of IpamDriver over HTTP, as dockerd sends them, on real records and a real kernel's routes."""

import json
import subprocess
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path

import pytest

from netplugin.kernel.netlink import Netlink
from netplugin.kernel.routes import HostNetworks
from netplugin.kinds import ADDRESSES, POOLS
from tests.network.ipam_engine import GATEWAY, SMALL, Ipam, host, named

RECORDED = Path(__file__).parents[1] / "conformance" / "transcripts"


@pytest.fixture
def ipam(state_dir):
    with closing(Ipam(state_dir)) as ipam:
        yield ipam


def sh(command):
    subprocess.run(["sh", "-c", command], check=True)


# --- what the driver is ---


def test_nothing_needs_to_be_replayed_to_it(ipam):
    assert ipam.ok("GetCapabilities") == {"RequiresMACAddress": False, "RequiresRequestReplay": False}
    assert set(ipam.ok("GetDefaultAddressSpaces").values()) == {"pylocal", "pyglobal"}


@pytest.mark.parametrize("method", ["RequestPool", "ReleasePool", "RequestAddress", "ReleaseAddress"])
def test_a_repeated_request_without_its_body_is_refused(ipam, method):
    assert "body is empty" in ipam.error(method)


# --- pools that nobody chose ---


def test_each_request_gives_another_pool_until_none_is_left(state_dir):
    with closing(Ipam(state_dir, config=SMALL)) as ipam:
        pools = [ipam.pool() for _ in range(4)]
        assert [pool["Pool"] for pool in pools] == [f"10.50.{number}.0/24" for number in range(4)]
        assert len({pool["PoolID"] for pool in pools}) == 4
        assert "all of 10.50.0.0/22 is given" in ipam.pool_error()
        ipam.release_pool(pools[2]["PoolID"])
        assert ipam.pool()["Pool"] == "10.50.2.0/24"


def test_it_keeps_clear_of_pools_of_either_address_space(state_dir):
    with closing(Ipam(state_dir, config=SMALL)) as ipam:
        ipam.pool("10.50.0.0/25", space="pyglobal")
        ipam.pool("10.50.1.128/25")
        assert ipam.pool()["Pool"] == "10.50.2.0/24"


@pytest.mark.usefixtures("netns")
def test_it_keeps_clear_of_what_the_host_uses(state_dir, tmp_path):
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("# a comment\nsearch lan\nnameserver 10.50.2.53\nnameserver fe80::1%eth0\nnameserver what\n")
    sh("ip link add d0 type bridge; ip addr add 10.50.0.77/28 dev d0; ip link set d0 up")
    sh("ip route add blackhole 10.50.1.0/25 table 77; ip route add 0.0.0.0/1 dev d0; ip route add 128.0.0.0/1 dev d0")
    with closing(Netlink()) as netlink:
        host = HostNetworks(netlink, (resolver, tmp_path / "none"))
        assert ip_network("10.50.2.53/32") in host.networks()
        ipam = Ipam(state_dir, host=host, config=SMALL)
        assert ipam.pool()["Pool"] == "10.50.3.0/24"
        assert "routed elsewhere by this host" in ipam.pool_error()
        ipam.close()


@pytest.mark.usefixtures("netns")
def test_both_ends_of_a_point_to_point_link_are_in_use():
    sh("ip link add d0 type bridge; ip addr add 10.1.0.1 peer 10.2.0.0/24 dev d0")
    with closing(Netlink()) as netlink:
        assert {ip_network("10.1.0.0/24"), ip_network("10.2.0.0/24")} <= HostNetworks(netlink, ()).networks()


def test_ipv6_pools_are_cut_from_one_random_48(ipam):
    nets = [ip_network(ipam.pool(v6=True)["Pool"]) for _ in range(3)]
    assert len(set(nets)) == 3
    assert {net.supernet(new_prefix=48) for net in nets} == {nets[0].supernet(new_prefix=48)}
    assert nets[0].is_private
    assert nets[0].prefixlen == 64


def test_another_installation_has_another_48(ipam, tmp_path):
    with closing(Ipam(tmp_path / "other")) as other:
        assert ipam.pool(v6=True)["Pool"] != other.pool(v6=True)["Pool"]


# --- pools that somebody chose ---


def test_an_overlapping_pool_is_refused_by_the_name_of_the_holder(ipam):
    holder = ipam.pool("10.9.0.0/16")
    for pool in ("10.9.0.0/16", "10.9.3.0/24", "10.0.0.0/8"):
        text = ipam.pool_error(pool)
        assert f"cannot give the pool {pool}: Pool overlaps with 10.9.0.0/16, given as {holder['PoolID']}" in text
    assert ipam.pool("10.10.0.0/16")["Pool"] == "10.10.0.0/16"
    assert ipam.pool("10.9.0.0/16", space="pyglobal")["PoolID"] != holder["PoolID"]


def test_networks_can_share_a_subnet_if_their_ip_ranges_are_apart(ipam):
    one = ipam.pool("10.9.0.0/24", "10.9.0.64/26")["PoolID"]
    other = ipam.pool("10.9.0.0/24", "10.9.0.128/26")["PoolID"]
    for sub_pool in ("10.9.0.64/27", "10.9.0.0/25", ""):
        assert "Pool overlaps" in ipam.pool_error("10.9.0.0/24", sub_pool)
    assert (ipam.address(one), ipam.address(other)) == ("10.9.0.64/24", "10.9.0.128/24")
    # Outside of the ranges there is one address for both.
    assert ipam.address(one, "10.9.0.1") == "10.9.0.1/24"
    assert f"of pool {one}" in ipam.address_error(other, "10.9.0.1")
    ipam.release(other, "10.9.0.1")
    assert "Address already in use" in ipam.address_error(other, "10.9.0.1")
    ipam.release_pool(one)
    assert ipam.address(other, "10.9.0.1") == "10.9.0.1/24"
    assert "Address already in use" in ipam.address_error(other, "10.9.0.128")


@pytest.mark.parametrize(
    ("pool", "sub_pool", "words"),
    [
        ("10.9.0.1/24", "", "host bits set"),
        ("10.9.0.0/33", "", "10.9.0.0/33"),
        ("ten", "", "ten"),
        ("0.0.0.0/0", "", "everything is no subnet"),
        ("10.9.0.0/24", "10.8.0.0/25", "not inside of --subnet 10.9.0.0/24"),
        ("10.9.0.0/24", "10.9.0.0/23", "not inside"),
        ("10.9.0.0/24", "fd00::/64", "not inside"),
        ("10.9.0.0/24", "10.9.0.1/25", "host bits set"),
        ("", "10.9.0.0/25", "without --subnet"),
    ],
)
def test_a_wrong_pool_is_refused(ipam, pool, sub_pool, words):
    assert words in ipam.pool_error(pool, sub_pool)
    assert ipam.store.rows(POOLS) == []


def test_options_and_address_spaces_that_there_are_not_are_refused(ipam):
    assert "no such option; the nearest is sticky" in ipam.pool_error(stiky="true")
    assert "takes true or false" in ipam.pool_error(sticky="maybe")
    assert "the address spaces are pylocal and pyglobal" in ipam.pool_error(space="elsewhere")
    ipam.pool(**{"com.docker.network.ipam.serial": "true", "com.docker.network.future": "x"})


def test_the_manager_and_the_node_of_a_swarm_machine_share_a_pool(ipam):
    manager = ipam.pool("10.9.0.0/24", space="pyglobal")
    gateway = ipam.address(manager["PoolID"], "", GATEWAY)
    task = ipam.address(manager["PoolID"])
    assert ipam.pool("10.9.0.0/24", space="pyglobal") == manager
    assert ipam.address(manager["PoolID"], host(gateway), GATEWAY) == gateway
    assert ipam.address(manager["PoolID"], host(task)) == task
    ipam.release_pool(manager["PoolID"])
    assert "Pool overlaps" in ipam.pool_error("10.9.0.0/23", space="pyglobal")
    ipam.release_pool(manager["PoolID"])
    assert ipam.pool("10.9.0.0/23", space="pyglobal")


# --- addresses ---


def test_the_gateway_comes_first_and_others_in_turn(ipam):
    pool = ipam.pool("10.9.0.0/29")["PoolID"]
    assert ipam.address(pool, "", GATEWAY) == "10.9.0.1/29"
    assert [ipam.address(pool) for _ in range(3)] == ["10.9.0.2/29", "10.9.0.3/29", "10.9.0.4/29"]
    ipam.release(pool, "10.9.0.2")
    ipam.release(pool, "10.9.0.4")
    assert [ipam.address(pool) for _ in range(4)] == [f"10.9.0.{last}/29" for last in (5, 6, 2, 4)]
    assert "no available IPv4 addresses in 10.9.0.0/29" in ipam.address_error(pool)
    ipam.release(pool, "10.9.0.3")
    assert ipam.address(pool) == "10.9.0.3/29"


def test_an_ip_range_is_for_choosing_only(ipam):
    pool = ipam.pool("10.9.0.0/24", "10.9.0.64/30")["PoolID"]
    assert ipam.address(pool, "", GATEWAY) == "10.9.0.64/24"
    assert ipam.address(pool, "10.9.0.5") == "10.9.0.5/24"
    assert ipam.address(pool, "10.9.0.66") == "10.9.0.66/24"
    assert [ipam.address(pool) for _ in range(2)] == ["10.9.0.65/24", "10.9.0.67/24"]
    assert "no available IPv4 addresses in 10.9.0.64/30" in ipam.address_error(pool)
    assert ipam.address(pool, "10.9.0.254", GATEWAY) == "10.9.0.254/24"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("10.9.0.7", "cannot give 10.9.0.7: Address already in use, as aux of pool pylocal/10.9.0.0/24/"),
        ("10.9.1.7", "outside of the pool 10.9.0.0/24"),
        ("fd00::7", "outside of the pool"),
        ("10.9.0.0", "reserved in 10.9.0.0/24; use 10.9.0.1-10.9.0.254"),
        ("10.9.0.255", "reserved"),
        ("ten", "'ten'"),
    ],
)
def test_an_address_that_cannot_be_had_is_refused(ipam, address, words):
    pool = ipam.pool("10.9.0.0/24")["PoolID"]
    ipam.address(pool, "10.9.0.7")
    assert words in ipam.address_error(pool, address)


@pytest.mark.parametrize(
    ("subnet", "gateway", "others"),
    [
        ("10.9.0.0/30", "10.9.0.1/30", ["10.9.0.2/30"]),
        ("10.9.0.0/31", "10.9.0.0/31", ["10.9.0.1/31"]),
        ("10.9.0.9/32", "10.9.0.9/32", []),
        ("fd00::/126", "fd00::1/126", ["fd00::2/126", "fd00::3/126"]),
        ("fd00::/127", "fd00::/127", ["fd00::1/127"]),
        ("fd00::9/128", "fd00::9/128", []),
    ],
)
def test_the_smallest_pools(ipam, subnet, gateway, others):
    pool = ipam.pool(subnet)["PoolID"]
    assert ipam.address(pool, "", GATEWAY) == gateway
    assert [ipam.address(pool) for _ in others] == others
    assert "no available" in ipam.address_error(pool)


def test_a_huge_pool_costs_what_it_holds(ipam):
    pool = ipam.pool("fd00:1::/32", v6=True)["PoolID"]
    assert ipam.address(pool, "", GATEWAY) == "fd00:1::1/32"
    last = "fd00:1:ffff:ffff:ffff:ffff:ffff:ffff"
    assert ipam.address(pool, last) == f"{last}/32"
    assert ipam.address(pool) == "fd00:1::2/32"
    assert len(ipam.store.rows(ADDRESSES)) == 3


def test_what_is_not_known_can_be_released(ipam):
    pool = ipam.pool("10.9.0.0/24")["PoolID"]
    ipam.release("pylocal/10.8.0.0/24/0", "10.8.0.1")
    ipam.release(pool, "10.9.0.1")
    ipam.release(pool, "10.8.0.1")
    ipam.release_pool("pylocal/10.8.0.0/24/0")
    assert "it is not known; re-create the network" in ipam.address_error("pylocal/10.8.0.0/24/0")


def test_a_pool_takes_its_addresses_along(ipam):
    pool = ipam.pool("10.9.0.0/24")["PoolID"]
    given = [ipam.address(pool) for _ in range(3)]
    ipam.release(pool, given[0])
    ipam.release_pool(pool)
    assert ipam.store.rows(POOLS) == ipam.store.rows(ADDRESSES) == []
    again = ipam.pool("10.9.0.0/24")["PoolID"]
    assert again != pool
    assert ipam.address(again) == given[0]
    ipam.release_pool(pool)
    assert len(ipam.store.rows(POOLS)) == 1


# --- the same address again ---


def test_a_mac_address_gets_its_former_address_where_that_was_asked_for(ipam):
    mac = {"com.docker.network.endpoint.macaddress": "02:00:00:00:00:01"}
    sticky, plain = ipam.pool("10.8.0.0/24", sticky="true")["PoolID"], ipam.pool("10.9.0.0/24")["PoolID"]
    for pool, is_same in ((sticky, True), (plain, False)):
        address = ipam.address(pool, "", mac)
        ipam.release(pool, address)
        assert (ipam.address(pool, "", mac) == address) is is_same


def test_a_pool_does_not_remember_for_ever(ipam, monkeypatch):
    monkeypatch.setattr("netplugin.ipam.records.REMEMBERED", 20)
    pool = ipam.pool("10.8.0.0/16")["PoolID"]
    for number in range(30):
        ipam.release(pool, ipam.address(pool, "", named(f"c{number}")))
    assert len(ipam.store.rows(ADDRESSES)) == 20
    assert ipam.address(pool, "", named("c29")) == "10.8.0.30/16"
    assert ipam.address(pool, "", named("c10")) == "10.8.0.11/16"
    assert ipam.address(pool, "", named("c0")) == "10.8.0.31/16"


# --- recorded dockerds ---


@pytest.mark.parametrize("version", ["20.10.24", "26.1.5", "28.5.2"])
def test_recorded_conversations_go_the_same_way(ipam, version):
    """A real dockerd's requests, with what it had from the recorder replaced by what it has from us."""
    ours = {("AddressSpace", "pynetlocal"): "pylocal"}
    for line in (RECORDED / version / "09-ipam-driver.jsonl").read_text().splitlines():
        exchange = json.loads(line)
        if not exchange["path"].startswith("/IpamDriver."):
            continue
        method = exchange["path"].removeprefix("/IpamDriver.")
        request = exchange["request"] or {}
        request = {key: ours.get((key, str(value)), value) for key, value in request.items()}
        if "pool" in (request.get("Options") or {}):
            assert "--ipam-opt pool" in ipam.error(method, **request)
            request["Options"] = {}
        answer = ipam.ok(method, **request)
        assert set(answer) == set(exchange["response"])
        for key in ("PoolID", "Address"):
            if key in answer:
                ours[key, exchange["response"][key].partition("/24")[0]] = answer[key].partition("/")[0]
                ours[key, exchange["response"][key]] = answer[key]
    assert ipam.store.rows(POOLS) == ipam.store.rows(ADDRESSES) == []
