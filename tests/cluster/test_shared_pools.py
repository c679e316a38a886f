"""Pools that hosts share: one subnet, one gateway, each address once, also while etcd is away."""

import threading
from contextlib import ExitStack
from ipaddress import ip_address, ip_network

import pytest

from netplugin.cluster import keys, operate
from netplugin.cluster.etcd import Delete
from tests.cluster.hosts import Host, Refused, wait_until


@pytest.fixture
def hosts(server, tmp_path):
    """Call it for so many hosts."""
    with ExitStack() as stack:

        def start(count):
            started = [Host(tmp_path, server.port, number) for number in range(1, count + 1)]
            for host in started:
                stack.callback(host.close)
                wait_until(host.agent._is_connected)
            return started

        yield start


def ready(*hosts, name="blue"):
    """Each host has a block."""
    for host in hosts:
        wait_until(lambda host=host: host.blocks(name))


def keys_of(server, *kinds):
    return [key for key in server.all_keys() if key.split("/")[3] in kinds]


def test_the_same_name_is_the_same_pool_with_one_gateway(hosts, server):
    one, two = hosts(2)
    first = one.create("blue")
    assert two.create("blue") == first
    assert one.create("green")[0] != first[0]
    ready(one, two)
    assert one.blocks().isdisjoint(two.blocks())
    given = [host.run(name) for host in (one, two) for name in ("ann", "bob", "cat")]
    assert len({*given, first[1].partition("/")[0]}) == 7
    assert {ip_address(address) in ip_network(first[0]) for address in given} == {True}


def test_what_comes_between_the_reading_and_the_watch_is_told(hosts):
    one, two = hosts(2)
    one.create("blue")
    two.create("blue")
    ready(one, two)
    one.line.meanwhile = lambda: one.run("ann")
    one.agent.look_again()
    wait_until(lambda: "ann" in one.containers)
    address = one.containers["ann"][2]
    wait_until(lambda: address in {known for known, _ in two.others()}, 3)


def test_the_last_host_takes_pool_and_blocks_with_it(hosts, server):
    one, two = hosts(2)
    subnet, _ = one.create("blue", aux=["10.200.1.200"])
    two.create("blue", subnet, aux=["10.200.1.200"])
    ready(one, two)
    one.remove("blue")
    assert len(keys_of(server, "pool")) == 4
    two.remove("blue")
    wait_until(lambda: {key.split("/")[3] for key in server.all_keys()} == {"host", "alive"})


def test_hosts_that_race_agree_on_subnet_and_gateway(hosts):
    several = hosts(4)
    made = {}
    threads = [
        threading.Thread(target=lambda h=host, n=name: made.setdefault((h.number, n), h.create(n)))
        for host in several
        for name in ("blue", "green")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    blue, green = ({value for (_, key), value in made.items() if key == name} for name in ("blue", "green"))
    assert len(blue) == len(green) == 1
    assert not ip_network(next(iter(blue))[0]).overlaps(ip_network(next(iter(green))[0]))


def test_what_differs_is_told(hosts):
    one, two = hosts(2)
    one.create("blue", "10.61.0.0/24", "10.61.0.9")
    for arguments, words in (
        (("10.62.0.0/24",), "the cluster has blue with 10.61.0.0/24; use that --subnet"),
        (("10.61.0.0/24", "10.61.0.1"), "the cluster has blue with 10.61.0.9; use that --gateway"),
    ):
        with pytest.raises(Refused, match=words):
            two.create("blue", *arguments)
    with pytest.raises(Refused, match=r"this host has one, pylocal/10.61.0.0/24"):
        one.create("blue")
    two.create("blue")
    assert two.held("gateway") == {"10.61.0.9"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"AddressSpace": "pyglobal"}, "Swarm gives its addresses out itself"),
        ({"Pool": "10.1.0.0/24", "SubPool": "10.1.0.0/25"}, "each host has blocks of its own"),
        ({"Options": {"name": "a/b"}}, "it takes what -o name takes"),
    ],
)
def test_wishes_that_make_no_sense_together(hosts, body, words):
    [one] = hosts(1)
    wish = {"AddressSpace": "pylocal", "Options": {"name": "blue"}, **body}
    with pytest.raises(Refused, match=words):
        one.verb("IpamDriver.RequestPool", **wish)


def test_a_network_whose_addresses_each_host_gives_itself_is_another_thing(hosts):
    one, two = hosts(2)
    body = {
        "NetworkID": "a" * 64,
        "Options": {"com.docker.network.generic": {"type": "overlay", "name": "blue"}},
        "IPv4Data": [{"AddressSpace": "Local", "Pool": "10.61.0.0/24", "Gateway": "10.61.0.1/24"}],
        "IPv6Data": [],
    }
    one.create("blue", "10.61.0.0/24")
    with pytest.raises(Refused, match="add --ipam-driver pynet --ipam-opt name=blue"):
        two.verb("NetworkDriver.CreateNetwork", **body)
    one.remove("blue")
    two.verb("NetworkDriver.CreateNetwork", **body)
    with pytest.raises(Refused, match="leave --ipam-opt name out"):
        one.create("blue")


def test_an_address_that_was_asked_for_moves_with_its_container(hosts):
    one, two, three = hosts(3)
    for host in (one, two, three):
        host.create("blue", "10.61.0.0/24")
    ready(one, two, three)
    # Of nobody's block, of one of the first host, and of the last host's own.
    for address in ("10.61.0.200", one.run("ann"), three.run("ann")):
        for host in (one, two, three, one):
            for other in (one, two, three):
                if "ann" in other.containers:
                    other.stop("ann")
            assert host.run("ann", address=address) == address
            with pytest.raises(Refused, match="Address already in use"):
                (two if host is not two else three).run("bob", address=address)


def test_what_was_lent_comes_back(hosts):
    one, two = hosts(2)
    for host in (one, two):
        host.create("blue", "10.61.0.0/28")
    ready(one, two)
    [block] = one.blocks()
    own = [str(address) for address in ip_network(block)][2]
    assert two.run("ann", address=own) == own
    assert one.held("lent") == {own}
    two.stop("ann")
    wait_until(lambda: not one.held("lent"))
    assert own in {one.run(name) for name in ("ann", "bob")}


def test_a_host_that_is_full_takes_another_block_and_gives_it_back(hosts):
    one, two = hosts(2)
    for host in (one, two):
        host.create("blue", "10.61.0.0/28")
    ready(one, two)
    given = {one.run(f"c{number}") for number in range(6)}
    assert len(given) == 6
    assert len(one.blocks()) == 2
    wait_until(lambda: two.run(f"c{len(two.containers)}") and len(one.own() | two.own()) == 13)
    with pytest.raises(Refused, match="every block of it is a host's"):
        two.run("one too many")
    for number in range(6):
        one.stop(f"c{number}")
    assert len(one.blocks()) == 1
    two.run("again")


def test_endpoints_come_and_go_while_etcd_is_away(hosts, server):
    one, two = hosts(2)
    for host in (one, two):
        host.create("blue", "10.61.0.0/24")
    ready(one, two)
    former = one.run("former")
    wait_until(lambda: (former, str(one.vtep)) in two.others())
    server.stop()
    one.stop("former")
    given = {host.run(f"{host.number}-{number}") for host in (one, two) for number in range(5)}
    assert len(given) == 10
    with pytest.raises(Refused, match="cannot ask etcd"):
        one.run("far", address="10.61.0.200")
    with pytest.raises(Refused, match="cannot ask etcd"):
        one.create("green")
    one.restart()
    given.add(one.run("after a restart"))
    assert len(given) == 11
    server.start()
    wait_until(lambda: {address for address, _ in two.others()} == one.own())
    wait_until(lambda: {address for address, _ in one.others()} == two.own())


def test_a_network_that_ended_while_etcd_was_away_is_gone_there_too(hosts, server):
    [one] = hosts(1)
    one.create("blue", "10.61.0.0/24")
    ready(one)
    one.run("ann", address="10.61.0.200")
    server.stop()
    one.stop("ann")
    one.remove("blue")
    server.start()
    wait_until(lambda: {key.split("/")[3] for key in server.all_keys()} == {"host", "alive"})


def test_when_etcd_has_lost_everything_nothing_is_given_twice(hosts, server):
    one, two = hosts(2)
    for host in (one, two):
        host.create("blue", "10.61.0.0/24")
    ready(one, two)
    [block] = one.blocks()
    lent = two.run("ann", address=str(ip_network(block)[5]))
    one.run("bob")
    before = keys_of(server, "pool", "address", "at", "net", "vni")
    server.ctl("del", "--prefix", "/pynet/")
    for host in (one, two):
        host.agent.look_again()
    wait_until(lambda: keys_of(server, "pool", "address", "at", "net", "vni") == before)
    assert one.held("lent") == {lent}
    with pytest.raises(Refused, match="not every host has said yet"):
        one.run("cat", address="10.61.0.200")


def test_what_was_reserved_for_a_verb_that_died_is_free_after_the_next_start(hosts, server):
    one, two = hosts(2)
    for host in (one, two):
        host.create("blue", "10.61.0.0/24")
    ready(one, two)
    one.ipam._sharing._cluster.reserve("blue", ip_address("10.61.0.200"), everybody=False)
    one.restart()
    wait_until(lambda: not keys_of(server, "address"))
    assert two.run("ann", address="10.61.0.200") == "10.61.0.200"


def test_six_is_as_four(hosts):
    one, two = hosts(2)
    subnet, _ = one.create("blue", v6=True)
    assert ip_network(subnet).prefixlen == 64
    assert two.create("blue", v6=True)[0] == subnet
    ready(one, two)
    assert one.run("ann") != two.run("ann")


def silent(host, etcd):
    """The host's lease has ended, and nobody hears of it any more."""
    host.line.cut()
    etcd.transact([], [Delete(keys.alive_key(f"h{host.number}"))])


def test_a_host_that_is_forgotten_and_comes_back_has_its_addresses_still(hosts, etcd):
    one, two = hosts(2)
    for host in (one, two):
        host.create("blue", "10.61.0.0/26")
    ready(one, two)
    own = {one.run("ann")}
    silent(one, etcd)
    operate.forget(etcd, "host-1", off=False)
    wait_until(lambda: not two.others())
    own |= {one.run("bob"), one.run("cat")}
    for address in own:
        with pytest.raises(Refused, match=r"which does not answer|Address already in use"):
            two.run("thief", address=address)
    one.line.heal()
    wait_until(lambda: {address for address, _ in two.others()} == own)


def test_a_host_that_was_taken_for_dead_gives_no_address_that_is_another_ones(hosts, etcd):
    one, two = hosts(2)
    for host in (one, two):
        host.create("blue", "10.61.0.0/28")
    ready(one, two)
    block = one.blocks()
    silent(one, etcd)
    operate.forget(etcd, "host-1", off=True)
    while block - two.blocks():
        two.run(f"c{len(two.containers)}")
    one.line.heal()
    wait_until(lambda: one.blocks().isdisjoint(block | two.blocks()))
    assert one.run("ann") not in two.own()
