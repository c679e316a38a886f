"""What every book of names, VNIs, pools and addresses promises: a host's own records, etcd, hosts that name each other.

Each test asks the same, as dockerd does, of a host that has its overlays in one of them; what stands in the book is
read from the book itself.
"""

import json
from ipaddress import ip_network

import pytest

from netplugin.kinds import NETWORKS, POOLS
from netplugin.machine import Way
from tests.cluster.hosts import Host, Refused, wait_until

SUBNET = "10.61.0.0/28"
EMPTY = ((), (), (), ())


class Alone(Host):
    """A host whose records are all there is."""

    def take_part(self):
        self.serve((*self.driver.methods(), *self.ipam.methods()))
        self.reconcile()

    def part(self):
        """There is nobody."""

    def pool_options(self, name):
        return {}

    def book(self):
        """Names with their VNIs, subnets, addresses of endpoints."""
        networks = [row.current for row in self.store.rows(NETWORKS) if row.current is not None]
        pools = [row.current for row in self.store.rows(POOLS) if row.current is not None]
        return (
            tuple(sorted(network.options.name for network in networks)),
            tuple(sorted(network.overlay.vni for network in networks)),
            tuple(sorted(pool.subnet for pool in pools)),
            tuple(sorted(self.own())),
        )


class Static(Alone):
    """A host that was told its peer."""

    def create(self, name, *words, **options):
        return super().create(name, *words, peers=f"{self.vtep},10.90.0.99", **options)

    def way_to(self, address):
        return Way(self.vtep, 1500, address == self.vtep)


class InCluster(Host):
    """A host with an etcd, which is what is read."""

    def __init__(self, root, server, number):
        self._server = server
        super().__init__(root, server.port, number)
        wait_until(self.agent._is_connected)

    def book(self):
        """The same, as it stands in etcd."""
        found = [], [], [], []
        for key in self._server.all_keys():
            match key.split("/")[3:]:
                case ["net", name]:
                    found[0].append(name)
                case ["vni", _, vni]:
                    found[1].append(int(vni, 16))
                case ["pool", _, _]:
                    found[2].append(self._value(key)["subnet"])
                case ["at", _, "endpoint", _]:
                    found[3].append(self._value(key)["address4"].partition("/")[0])
        return tuple(tuple(sorted(each)) for each in found)

    def _value(self, key):
        return json.loads(self._server.ctl("get", "--print-value-only", key))


@pytest.fixture(params=["sqlite", "etcd", "peers"])
def host(request, tmp_path):
    if request.param == "etcd":
        host = InCluster(tmp_path, request.getfixturevalue("server"), 1)
    else:
        host = {"sqlite": Alone, "peers": Static}[request.param](tmp_path, None, 1)
    yield host
    host.close()


def created(host, name="blue", subnet=SUBNET, **options):
    """The network is there and can give addresses."""
    host.create(name, subnet, **options)
    if isinstance(host, InCluster):
        wait_until(lambda: host.blocks(name))


def agrees(host, book):
    """What stands in the book is soon, and then stays, `book`."""
    wait_until(lambda: host.book() == book)


def refuses_another_blue(host):
    with pytest.raises(Refused, match=r"blue|VNI"):
        host.create("blue", "10.62.0.0/28")
    if not isinstance(host, Static):
        # Hosts that name each other know no names: theirs are a way to write a VNI.
        with pytest.raises(Refused, match="blue"):
            host.create("blue", "10.62.0.0/28", vni="78")


def test_a_name_is_one_networks_until_it_is_removed(host):
    created(host)
    before = host.book()
    assert before[0] == ("blue",)
    refuses_another_blue(host)
    assert host.book() == before
    host.remove("blue")
    agrees(host, EMPTY)
    created(host)
    # Other hosts may have it still: it has to be the same one again.
    assert host.book() == before


def test_a_vni_is_one_networks_until_it_is_removed(host):
    created(host, vni="77")
    before = host.book()
    assert before[1] == (77,)
    with pytest.raises(Refused, match="77"):
        host.create("green", "10.62.0.0/28", vni="77")
    assert host.book() == before
    host.remove("blue")
    created(host, "green", "10.62.0.0/28", vni="77")
    assert host.book()[:2] == (("green",), (77,))


def test_pools_do_not_overlap_until_one_is_removed(host):
    created(host)
    before = host.book()
    for subnet in (SUBNET, "10.61.0.0/16", "10.61.0.8/29"):
        with pytest.raises(Refused, match=r"overlaps|10\.61\.0\.0/28"):
            host.create("green", subnet)
        assert host.book() == before
    host.remove("blue")
    created(host, "green", "10.61.0.0/16")
    assert host.book()[2] == ("10.61.0.0/16",)


def test_pools_that_nobody_chose_do_not_overlap_either(host):
    subnets = [ip_network(host.create(name)[0]) for name in ("blue", "green", "red")]
    assert not any(one.overlaps(other) for one in subnets for other in subnets if one is not other)


def test_an_address_is_one_endpoints_until_it_ends(host):
    created(host)
    assert host.run("ann", address="10.61.0.9") == "10.61.0.9"
    before = host.book()
    assert before[3] == ("10.61.0.9",)
    for taken in ("10.61.0.9", "10.61.0.1"):
        with pytest.raises(Refused, match="in use"):
            host.run("bob", address=taken)
    assert host.book() == before
    host.stop("ann")
    agrees(host, (*before[:3], ()))
    assert host.run("bob", address="10.61.0.9") == "10.61.0.9"


def test_all_are_given_once_and_then_none(host):
    host.create("blue", SUBNET, "", False, ("10.61.0.5",))
    if isinstance(host, InCluster):
        wait_until(lambda: host.blocks())
    given = [host.run(f"c{number}") for number in range(12)]
    # Of 14, one is the gateway's, one was set aside.
    assert len({*given, "10.61.0.1", "10.61.0.5"}) == 14
    assert host.book()[3] == tuple(sorted(given))
    with pytest.raises(Refused, match="cannot give an address"):
        host.run("one too many")
    host.stop("c7")
    assert host.run("again") == given[7]


def test_what_ends_twice_ends_once(host):
    created(host)
    network_id, pool_id, _ = host.made["blue"]
    ann, bob = host.run("ann"), host.run("bob")
    endpoint_id = host.containers["ann"][1]
    host.stop("ann")
    before = host.book()
    host.verb("NetworkDriver.DeleteEndpoint", NetworkID=network_id, EndpointID=endpoint_id)
    host.verb("IpamDriver.ReleaseAddress", PoolID=pool_id, Address=ann)
    assert host.book() == before
    assert before[3] == (bob,)
    host.stop("bob")
    host.remove("blue")
    host.verb("NetworkDriver.DeleteNetwork", NetworkID=network_id)
    host.verb("IpamDriver.ReleasePool", PoolID=pool_id)
    agrees(host, EMPTY)


def test_all_is_there_after_a_restart(host):
    created(host)
    ann = host.run("ann")
    before = host.book()
    host.restart()
    if isinstance(host, InCluster):
        wait_until(host.agent._is_connected)
    assert host.book() == before
    with pytest.raises(Refused, match="in use"):
        host.run("bob", address=ann)
    refuses_another_blue(host)
    host.stop("ann")
    host.remove("blue")
    agrees(host, EMPTY)
