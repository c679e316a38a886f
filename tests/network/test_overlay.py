"""What an overlay's options mean: VNI, VTEP, MTU, and the whole plan."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface

import pytest

from netplugin.cluster.alone import Alone
from netplugin.dns.resources import Named, NameServer
from netplugin.firewall.backends import BACKENDS
from netplugin.machine import Way
from netplugin.options import NetworkOptions
from netplugin.overlay.decide import DERIVED_VNIS, NOWHERE, decide, derived_vni
from netplugin.overlay.plan import EVERYBODY, plan_remote_endpoint, plan_remote_host
from netplugin.overlay.tunnel import PREFIX, Tunnel, TunnelPeer, address_inside
from netplugin.parse import parse_network_options
from netplugin.plan import plan_endpoint, plan_network
from netplugin.records import Endpoint, Overlay, RemoteEndpoint, RemoteHost
from netplugin.resources import Bridge, FdbEntry, OverlayGuard, OverlayMember, OverlayProbes, Sysctl, Vxlan
from pluginkit.errors import BadRequest, Unavailable
from tests.network.samples import ENDPOINT_ID, NETWORK_ID, SUBNET4, SUBNET6, network

OWN, FAR, FARTHER = "10.90.0.11", "10.90.0.12", "10.90.0.13"
WAYS = {
    OWN: Way(IPv4Address(OWN), 65536, True),
    "10.91.0.11": Way(IPv4Address("10.91.0.11"), 65536, True),
    FAR: Way(IPv4Address(OWN), 1500, False),
    FARTHER: Way(IPv4Address(OWN), 1400, False),
    "10.91.0.12": Way(IPv4Address("10.91.0.11"), 1500, False),
    "fd90::12": Way(IPv6Address("fd90::11"), 1500, False),
}


def overlay(*peers, **options):
    return network(options=NetworkOptions(type="overlay", **{"name": "blue", "peers": peers, **options}))


def decided(*peers, adopted=False, lack="", **options):
    def way_to(address):
        return WAYS.get(str(address))

    join = Alone(lambda: (), lambda: 1500).join
    return decide(overlay(*peers, **options), way_to, join, adopted=adopted, tunnel_lack=lambda: lack)


def parsed(**generic):
    return parse_network_options({"com.docker.network.generic": generic})


def test_the_vni_is_made_of_the_name_and_the_same_everywhere():
    assert derived_vni("blue") == 0x500699
    assert derived_vni("green") != derived_vni("blue")
    assert {derived_vni(str(number)) in DERIVED_VNIS for number in range(1000)} == {True}


def test_what_is_decided():
    assert decided(OWN, FAR, FARTHER).overlay == Overlay(0x500699, 14789, OWN, (FAR, FARTHER))
    assert decided(FAR, vni=7, vxlan_port=4789).overlay == Overlay(7, 4789, OWN, (FAR,))
    assert decided(FAR, vtep="10.91.0.11").overlay.vtep == "10.91.0.11"


def test_the_mtu_is_what_the_narrowest_way_leaves():
    assert decided(OWN, FAR).mtu == 1450
    assert decided(OWN, FAR, FARTHER).mtu == 1350
    assert decided("fd90::12").mtu == 1430
    assert decided(FAR, mtu=1000).mtu == 1000


@pytest.mark.parametrize(
    ("peers", "options", "error", "words"),
    [
        ((FAR,), {"mtu": 1451}, BadRequest, "an MTU of 1451 does not fit, for the way to its peers leaves 1450"),
        ((), {"dns": True}, BadRequest, "names go from host to host by etcd; run pynet with PYNET_CLUSTER"),
        ((), {"mtu": 1431}, BadRequest, "an MTU of 1431 does not fit, the way out leaves 1430"),
        ((OWN,), {}, BadRequest, "names nobody but this host"),
        ((FAR, "10.99.0.1"), {}, Unavailable, "no route to its peer 10.99.0.1"),
        ((FAR,), {"vtep": FARTHER}, BadRequest, f"-o vtep={FARTHER} is no address of this host"),
        ((FAR, "10.91.0.12"), {}, BadRequest, "know this host as 10.90.0.11 or 10.91.0.11; say which with -o vtep"),
        ((FAR,), {"adopted": True, "bridge_name": "br-lan"}, BadRequest, "br-lan exists; choose another name"),
    ],
)
def test_what_does_not_fit_this_host_is_refused(peers, options, error, words):
    with pytest.raises(error, match=words):
        decided(*peers, **options)


@pytest.mark.parametrize(
    ("generic", "words"),
    [
        ({"type": "overlay", "vni": "7"}, "add -o name=NAME"),
        ({"type": "overlay", "name": "blue", "vtep": OWN}, "leave -o vtep out"),
        ({"type": "overlay", "peers": FAR}, "add -o name=NAME"),
        ({"peers": FAR}, "peers is an option of overlays; add -o type=overlay"),
        ({"name": "blue"}, "name is an option of overlays"),
        ({"multicast": "off"}, "multicast is an option of overlays"),
        ({"dns": "true"}, "dns is an option of overlays"),
        ({"type": "overlay", "name": "b", "dns": "true", "peers": FAR}, "leave -o peers out, and run pynet with PYNET"),
        (
            {"type": "overlay", "name": "b", "dns": "true", "com.docker.network.bridge.inhibit_ipv4": "true"},
            "dns answers at the gateway",
        ),
        ({"type": "overlay", "name": "b", "multicast": "no"}, "on or off"),
        ({"encrypted": "true"}, "encrypted is an option of overlays"),
        ({"type": "overlay", "name": "b", "peers": FAR, "vtep": "fd90::11"}, "different families"),
        ({"type": "overlay", "name": "b", "peers": f"{FAR},fd90::12"}, "addresses of one family"),
        ({"type": "overlay", "name": "b", "peers": "127.0.0.1"}, "addresses of one family"),
        ({"type": "overlay", "vni": "16777216", "peers": FAR}, "1 to 16777215"),
        ({"type": "overlay", "name": "-b", "peers": FAR}, "up to 63 letters"),
        ({"type": "vlan"}, "bridge or overlay"),
    ],
)
def test_options_that_make_no_overlay_are_refused(generic, words):
    with pytest.raises(BadRequest, match=words):
        parsed(**generic)


def test_peers_are_spelled_in_one_way_and_named_once():
    assert parsed(type="overlay", name="b", peers=" fd90:0::0012, fd90::12").peers == ("fd90::12",)


def test_without_peers_and_without_a_cluster_it_is_nowhere_yet():
    alone = decided()
    assert (alone.overlay, alone.mtu) == (Overlay(0x500699, 14789, NOWHERE, (), "blue"), 1430)


def test_without_multicast_the_guard_lets_nothing_for_many_pass():
    loud, quiet = (plan_network(decided(FAR, multicast=on), BACKENDS["iptables"]) for on in (True, False))
    changed = [(one, other) for one, other in zip(loud, quiet, strict=True) if one != other]
    assert changed == [(guard, replace(guard, multicast=False)) for guard in loud if isinstance(guard, OverlayGuard)]


def test_isolated_containers_do_not_ask_other_hosts_whether_an_address_is_taken():
    apart = plan_network(decided(FAR, icc=False), BACKENDS["iptables"])
    assert not any(isinstance(want, OverlayProbes) for want in apart)


def test_the_plan_of_an_overlay_is_that_of_a_bridge_and_a_way_to_its_peers():
    [bridge, *others] = plan_network(decided(OWN, FAR, FARTHER), BACKENDS["iptables"])
    device = f"pnx{NETWORK_ID[:8]}"
    assert isinstance(bridge, Bridge)
    assert others[-8:] == [
        OverlayGuard(device, bridge.mac, 0x500699, 14789),
        Vxlan(device, bridge.name, 0x500699, 14789, OWN, 1350, True, False, f"pynet network {NETWORK_ID}"),
        Sysctl(f"net/ipv6/conf/{device}/disable_ipv6", "1", optional=True),
        OverlayProbes(device, bridge.name),
        OverlayMember(device, 0x500699, 14789, FAR),
        FdbEntry(device, EVERYBODY, FAR),
        OverlayMember(device, 0x500699, 14789, FARTHER),
        FdbEntry(device, EVERYBODY, FARTHER),
    ]
    [plain, *without] = plan_network(replace(network(), mtu=1350), BACKENDS["iptables"])
    assert others[:-8] == without
    assert bridge == replace(plain, mac=bridge.mac)


def mac_of(one):
    return plan_network(one, BACKENDS["iptables"])[0].mac


def test_hosts_with_one_gateway_have_one_mac_and_others_have_their_own():
    here = decided(FAR)
    assert mac_of(replace(here, id="f" * 64)) == mac_of(here)
    elsewhere = replace(SUBNET4, gateway=ip_address("10.9.0.65"))
    assert mac_of(replace(here, subnets4=(elsewhere,))) != mac_of(here)


def test_containers_that_may_not_meet_do_not_meet_those_elsewhere():
    [device] = [want for want in plan_network(decided(FAR, icc=False), BACKENDS["iptables"]) if isinstance(want, Vxlan)]
    assert device.isolated


def test_names_are_told_at_the_gateways_by_the_records_of_endpoints_here_and_elsewhere():
    plain = replace(decided(FAR), subnets6=(SUBNET6,))
    named = replace(plain, options=replace(plain.options, dns=True, name="Blue"))
    gateways, bridge = (SUBNET4.gateway, SUBNET6.gateway), f"pn-{NETWORK_ID[:8]}"
    one, other = (plan_network(each, BACKENDS["iptables"]) for each in (plain, named))
    [guard] = [want for want in one if isinstance(want, OverlayGuard)]
    server = NameServer(bridge, gateways, "blue", (SUBNET4.pool, SUBNET6.pool))
    assert set(other) ^ set(one) == {server, guard, replace(guard, names=gateways)}
    addresses = ip_interface("10.9.0.2/24"), ip_interface("fd09::2/64")
    remote = RemoteEndpoint("02:42:0a:09:00:02", FAR, *addresses, names=("bob", "db"))
    names = [Named(bridge, address.ip, ("bob", "db")) for address in addresses]
    assert list(plan_remote_endpoint(remote, named, bridge))[-2:] == names
    assert not [want for want in plan_remote_endpoint(remote, plain, bridge) if isinstance(want, Named)]
    here = Endpoint(ENDPOINT_ID, NETWORK_ID, *addresses, "02:42:0a:09:00:02", names=("bob", "db"))
    assert list(plan_endpoint(here, named, BACKENDS["iptables"]))[-2:] == names
    assert not [
        want for want in plan_endpoint(replace(here, names=()), named, BACKENDS["iptables"]) if isinstance(want, Named)
    ]


def test_where_keys_cannot_be_told_or_used_encryption_is_refused():
    with pytest.raises(BadRequest, match="have no place where they could tell their keys; run pynet with PYNET_CLUST"):
        decided(FAR, encrypted=True)
    with pytest.raises(BadRequest, match="hosts tell each other their keys by etcd; run pynet with PYNET_CLUSTER"):
        decided(encrypted=True)
    with pytest.raises(BadRequest, match="cannot create network 1a2b3c4d1a2b: no program"):
        decided(encrypted=True, lack="no program")
    assert decided(FAR, lack="no program").overlay


def test_an_encrypted_network_has_its_device_inside_of_the_tunnel():
    one, other = address_inside("blue", "one"), address_inside("blue", "other")
    assert len({one, other, address_inside("green", "one")}) == 3
    assert all(IPv6Address(each) in PREFIX for each in (one, other))
    plain = replace(decided(), overlay=Overlay(7, 14789, one, (), "blue"), mtu=1370)
    blue = replace(plain, options=replace(plain.options, encrypted=True))
    clear, hidden = (plan_network(each, BACKENDS["iptables"]) for each in (plain, blue))
    assert set(hidden) - set(clear) == {Tunnel(one, 1440)}
    kinds = [type(want) for want in hidden]
    assert kinds.index(OverlayGuard) < kinds.index(Tunnel) < kinds.index(Vxlan)
    told = RemoteHost(other, "key", "10.90.0.12:14790")
    assert plan_remote_host(told, blue) == (
        TunnelPeer(other, "key", "10.90.0.12:14790"),
        *plan_remote_host(told, plain),
    )
