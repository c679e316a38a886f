"""What hosts agree on by way of a real etcd, and that no address is ever two's."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, ip_address

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from netplugin.cluster import keys
from netplugin.cluster.directory import Directory
from netplugin.cluster.etcd import Access, Delete, Etcd, Put, Server
from netplugin.machine import Way
from netplugin.options import NetworkOptions
from netplugin.overlay.decide import derived_vni
from netplugin.records import Endpoint, Overlay
from pluginkit import wire
from pluginkit.errors import BadRequest, Conflict, Unavailable
from tests.network.samples import SUBNET4, network

BLUE = network(dual=True, options=NetworkOptions(type="overlay", name="blue"))
VTEPS = {"one": "10.90.0.11", "two": "10.90.0.12", "three": "10.90.0.13"}


def host(etcd, name, room=1500, narrow=1500):
    """A host that has registered; `narrow` is the MTU of its way to others."""
    own = ip_address(VTEPS[name])
    directory = Directory(etcd, name, f"host-{name}", own, room, lambda to: Way(own, narrow, to == own))
    directory.register()
    return directory


def endpoint(number, address=None, address6=True):
    address = address or number
    return Endpoint(
        f"{number:064x}",
        BLUE.id,
        IPv4Interface(f"10.9.0.{address}/24"),
        IPv6Interface(f"fd09::{address:x}/64") if address6 else None,
        f"02:42:0a:09:00:{number:02x}",
    )


@pytest.fixture
def one(etcd):
    return host(etcd, "one")


@pytest.fixture
def two(etcd):
    return host(etcd, "two")


def test_hosts_have_the_same_network(one, two, server):
    first, second = one.join(BLUE), two.join(replace(BLUE, id="f" * 64))
    assert first.overlay == Overlay(derived_vni("blue"), 14789, "10.90.0.11", (), "blue")
    assert (second.overlay, second.mtu) == (replace(first.overlay, vtep="10.90.0.12"), 1450)
    assert one.join(BLUE) == first
    assert [key for key in server.all_keys() if "/host/" in key and "/at/" in key] == [
        "/pynet/v1/at/blue/host/one",
        "/pynet/v1/at/blue/host/two",
    ]


def test_the_last_host_takes_the_network_with_it(one, two, server):
    one.join(BLUE)
    two.join(BLUE)
    one.leave("blue")
    assert "/pynet/v1/net/blue" in server.all_keys()
    two.leave("blue")
    two.leave("blue")
    assert {key.split("/")[3] for key in server.all_keys()} == {"host", "alive"}


def test_a_vni_that_another_network_has_is_passed_over(one, etcd):
    etcd.transact([], [Put(keys.vni_key(derived_vni("blue"), 14789), b"green")])
    assert one.join(BLUE).overlay.vni == derived_vni("blue") + 1
    wanted = replace(BLUE, options=replace(BLUE.options, name="red", vni=derived_vni("blue")))
    with pytest.raises(Conflict, match="is in the cluster that of green; choose another -o vni"):
        one.join(wanted)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda it: replace(it, subnets6=()), Conflict, "the cluster has it with 10.9.0.0/24 .* and fd09::/64"),
        (
            lambda it: replace(it, subnets4=(replace(SUBNET4, gateway=IPv4Address("10.9.0.9")),)),
            Conflict,
            "not 10.9.0.0/24 .gateway 10.9.0.9.",
        ),
        (lambda it: replace(it, subnets4=(replace(SUBNET4, pool=IPv4Network("10.9.0.0/25")),)), Conflict, "use those"),
        (lambda it: replace(it, options=replace(it.options, vni=7)), Conflict, "leave -o vni and -o vxlan_port out"),
        (lambda it: replace(it, options=replace(it.options, mtu=1000)), BadRequest, "it must be the same everywhere"),
    ],
)
def test_another_network_of_that_name_is_refused(one, two, change, error, words):
    one.join(BLUE)
    with pytest.raises(error, match=words):
        two.join(change(BLUE))


def test_a_host_with_less_room_is_refused(one, etcd):
    one.join(BLUE)
    for narrow in (host(etcd, "two", room=1400), host(etcd, "three", narrow=1400)):
        with pytest.raises(BadRequest, match="has it with an MTU of 1450, this host has room for 1350"):
            narrow.join(BLUE)


def test_an_address_is_one_hosts(one, two, etcd, server):
    blue = one.join(BLUE)
    two.join(BLUE)
    one.claim(blue, endpoint(5))
    one.claim(blue, endpoint(5))
    for same in (endpoint(6, address=5), endpoint(7, address=5, address6=False)):
        with pytest.raises(Conflict, match=r"10.9.0.5 of blue is in use by endpoint 000000000000 on host host-one"):
            two.claim(blue, same)
    assert not [key for key in server.all_keys() if key.endswith((endpoint(6).id, endpoint(7).id))]
    two.release("blue", endpoint(5).id)
    assert etcd.get(keys.address_key("blue", endpoint(5).address4.ip)).revision
    one.release("blue", endpoint(5).id)
    one.release("blue", endpoint(5).id)
    two.claim(blue, endpoint(6, address=5))
    value = wire.decode(etcd.get(keys.endpoint_key("blue", endpoint(6).id)).value, keys.EndpointValue)
    assert (value.host, value.vtep, value.mac) == ("two", "10.90.0.12", endpoint(6).mac)


def test_an_address_that_its_own_host_gives_out_again_is_the_later_endpoints(one, etcd):
    blue = one.join(BLUE)
    one.claim(blue, endpoint(5))
    one.claim(blue, endpoint(6, address=5))
    one.release("blue", endpoint(5).id)
    held = etcd.get(keys.address_key("blue", endpoint(5).address4.ip))
    assert wire.decode(held.value, keys.AddressValue).endpoint == endpoint(6).id


def test_a_process_that_was_thought_dead_writes_nothing_any_more(one, etcd):
    blue = one.join(BLUE)
    later = host(etcd, "one")
    with pytest.raises(Unavailable, match="another pynet has started as this host"):
        one.claim(blue, endpoint(5))
    later.claim(blue, endpoint(5))


def test_before_etcd_was_reached_nothing_is_promised(etcd):
    own = ip_address(VTEPS["one"])
    unheard = Directory(etcd, "one", "host-one", own, 1500, lambda _to: None)
    with pytest.raises(Unavailable, match="etcd has not been reached since pynet started"):
        unheard.claim(replace(BLUE, overlay=Overlay(7, 14789, str(own), (), "blue")), endpoint(5))


class Hosts(RuleBasedStateMachine):
    """Hosts that claim, release, start again and are cut off, each with what it believes to have."""

    etcd: Etcd

    def __init__(self):
        super().__init__()
        for entry in self.etcd.list(keys.PREFIX).entries:
            self.etcd.transact([], [Delete(entry.key)])
        self.hosts = {name: host(self.etcd, name) for name in VTEPS}
        self.blue = self.hosts["one"].join(BLUE)
        self.held = {name: {} for name in VTEPS}
        self.next = 0

    @rule(name=st.sampled_from(sorted(VTEPS)), address=st.integers(2, 5))
    def claim(self, name, address):
        self.next += 1
        wanted = endpoint(self.next % 250 + 1, address)
        try:
            self.hosts[name].claim(self.blue, wanted)
        except Conflict:
            assert any(address in held for other, held in self.held.items() if other != name)
        else:
            # An engine gives an address of its own out once only: the former endpoint had died unheard.
            self.held[name][address] = wanted

    @rule(name=st.sampled_from(sorted(VTEPS)), address=st.integers(2, 5))
    def claim_while_cut_off(self, name, address):
        away = Etcd(Access((Server("127.0.0.1", 1),)))
        near, self.hosts[name].etcd = self.hosts[name].etcd, away
        with pytest.raises(Unavailable):
            self.hosts[name].claim(self.blue, endpoint(251, address))
        self.hosts[name].etcd = near

    @rule(name=st.sampled_from(sorted(VTEPS)), address=st.integers(2, 5))
    def release(self, name, address):
        if former := self.held[name].pop(address, None):
            self.hosts[name].release("blue", former.id)

    @rule(name=st.sampled_from(sorted(VTEPS)))
    def start_again(self, name):
        zombie, self.hosts[name] = self.hosts[name], host(self.etcd, name)
        with pytest.raises(Unavailable):
            zombie.claim(self.blue, endpoint(252, 9))

    @invariant()
    def nobody_has_what_another_has(self):
        everything = [address for held in self.held.values() for address in held]
        assert len(everything) == len(set(everything))
        there = {
            entry.key.rpartition("/")[2]: wire.decode(entry.value, keys.AddressValue)
            for entry in self.etcd.list(f"{keys.PREFIX}address/").entries
        }
        wanted = {
            str(address.ip): keys.AddressValue(name, one.id)
            for name, held in self.held.items()
            for one in held.values()
            for address in (one.address4, one.address6)
        }
        assert there == wanted


def test_no_address_is_ever_given_twice(etcd):
    Hosts.etcd = etcd
    few = settings(max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Hosts, settings=few)
