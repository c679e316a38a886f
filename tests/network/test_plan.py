"""Golden text of everything that a record wants in the kernel."""

from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest

from netplugin import plan
from netplugin.firewall.backends import BACKENDS
from netplugin.options import EndpointOptions, NetworkOptions
from netplugin.records import Publication, PublishedPort
from netplugin.resources import (
    Bridge,
    Forwarding,
    HostPorts,
    NftPorts,
    NftRuleset,
    Redirect,
    Ruleset,
    Shaper,
    SourceGuard,
    Sysctl,
    Veth,
)
from tests.network.samples import ANY4, DNS_LOCAL, WEB, WEB_DUAL, endpoint, network


def plan_network(network, backend="iptables"):
    return plan.plan_network(network, BACKENDS[backend])


def plan_endpoint(endpoint, network, backend="iptables"):
    return plan.plan_endpoint(endpoint, network, BACKENDS[backend])


def render(resources):
    """Return what `resources` say, a line each, rules by chain."""
    lines = []
    for want in resources:
        match want:
            case Bridge():
                lines.append(f"bridge {want.name} {want.mac} mtu {want.mtu} {' '.join(map(str, want.addresses))}")
            case Veth():
                flags = [name for name in ("hairpin", "isolated") if getattr(want, name)]
                lines.append(" ".join(["veth", want.name, want.peer, want.peer_mac, "in", want.bridge, *flags]))
            case Sysctl():
                lines.append(f"sysctl {want.path} = {want.value}")
            case Forwarding():
                lines.append(f"forwarding {want.family}")
            case HostPorts():
                lines.append(
                    f"port {want.address} {want.port}/{want.protocol}" + (f" x{want.count}" * (want.count > 1))
                )
            case Ruleset():
                for chain in want.chains:
                    where = f"{want.family} {chain.jump.table}"
                    lines.append(f"{where} {chain.jump.parent} {chain.jump.rule}")
                    lines += [f"{where} {chain.name} {rule}" for rule in chain.rules]
            case NftRuleset():
                for nft in want.chains:
                    lines.append(f"nft {want.family} {nft.map} {nft.interface} : {nft.name}")
                    lines += [f"nft {want.family} {nft.name} {rule}" for rule in nft.rules]
            case NftPorts():
                for element in want.elements:
                    key = f"{element.key.hex()}{'-' + element.key_end.hex() if element.key_end else ''}"
                    value = element.data.hex() or element.chain
                    lines.append(f"nft {want.family} {element.set} {key} : {value}")
            case _:
                lines.append(repr(want))
    return "\n".join(lines).replace("-n1a2b3c4d", "-N").replace("-ee1e2e3e4", "-E")


def test_a_network():
    assert (
        render(plan_network(network()))
        == """\
bridge pn-1a2b3c4d 02:af:3d:5b:a9:4e mtu 1500 10.9.0.1/24
sysctl net/ipv6/conf/pn-1a2b3c4d/disable_ipv6 = 1
forwarding ipv4
sysctl net/ipv4/conf/pn-1a2b3c4d/forwarding = 1
sysctl net/ipv4/conf/pn-1a2b3c4d/route_localnet = 1
ipv4 mangle PYNET-ENTER -o pn-1a2b3c4d -j PYNET-ENTER-N
ipv4 mangle PYNET-ENTER-N -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
ipv4 mangle PYNET-ENTER-N -i pn-1a2b3c4d -j RETURN
ipv4 mangle PYNET-ENTER-N -m conntrack --ctstate DNAT -j RETURN
ipv4 mangle PYNET-ENTER-N -j DROP
ipv4 mangle PYNET-LEAVE -i pn-1a2b3c4d -j PYNET-LEAVE-N
ipv4 mangle PYNET-LEAVE-N -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
ipv4 mangle PYNET-LEAVE-N -m conntrack --ctstate DNAT -j RETURN
ipv4 mangle PYNET-LEAVE-N -j PYNET-FOREIGN
ipv4 filter PYNET-TO -o pn-1a2b3c4d -j PYNET-TO-N
ipv4 filter PYNET-TO-N -j ACCEPT
ipv4 filter PYNET-FROM -i pn-1a2b3c4d -j PYNET-FROM-N
ipv4 filter PYNET-FROM-N -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
ipv4 filter PYNET-FROM-N -m conntrack --ctstate DNAT -j RETURN
ipv4 filter PYNET-FROM-N -j ACCEPT
ipv4 nat PYNET-SNAT -j PYNET-SNAT-N
ipv4 nat PYNET-SNAT-N -s 10.9.0.0/24 ! -o pn-1a2b3c4d -j MASQUERADE
ipv4 nat PYNET-SNAT-N -s 10.9.0.0/24 -o pn-1a2b3c4d -m conntrack --ctstate DNAT -j MASQUERADE
ipv4 nat PYNET-SNAT-N -s 127.0.0.0/8 -o pn-1a2b3c4d -j MASQUERADE
ipv4 filter PYNET-INPUT -i pn-1a2b3c4d -j PYNET-INPUT-N
ipv4 filter PYNET-INPUT-N -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP"""
    )


def test_a_network_of_both_families():
    lines = render(plan_network(network(dual=True))).splitlines()
    assert lines[0] == "bridge pn-1a2b3c4d 02:af:3d:5b:a9:4e mtu 1500 10.9.0.1/24 fd09::1/64"
    assert "sysctl net/ipv6/conf/pn-1a2b3c4d/disable_ipv6 = 0" in lines
    assert "sysctl net/ipv6/conf/pn-1a2b3c4d/accept_ra = 0" in lines
    assert "forwarding ipv6" in lines
    assert "ipv6 nat PYNET-SNAT-N -s fd09::/64 ! -o pn-1a2b3c4d -j MASQUERADE" in lines
    assert not [line for line in lines if line.startswith("ipv6") and "127.0.0.0" in line]


def test_an_internal_network_leads_nowhere():
    assert (
        render(plan_network(network(internal=True)))
        == """\
bridge pn-1a2b3c4d 02:af:3d:5b:a9:4e mtu 1500 10.9.0.1/24
sysctl net/ipv6/conf/pn-1a2b3c4d/disable_ipv6 = 1
ipv4 mangle PYNET-ENTER -o pn-1a2b3c4d -j PYNET-ENTER-N
ipv4 mangle PYNET-ENTER-N -i pn-1a2b3c4d -j RETURN
ipv4 mangle PYNET-ENTER-N -j DROP
ipv4 mangle PYNET-CLOSED -i pn-1a2b3c4d -j PYNET-CLOSED-N
ipv4 mangle PYNET-CLOSED-N ! -o pn-1a2b3c4d -j DROP
ipv4 filter PYNET-TO -o pn-1a2b3c4d -j PYNET-TO-N
ipv4 filter PYNET-TO-N -j ACCEPT
ipv4 filter PYNET-FROM -i pn-1a2b3c4d -j PYNET-FROM-N
ipv4 filter PYNET-FROM-N -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
ipv4 filter PYNET-FROM-N -m conntrack --ctstate DNAT -j RETURN
ipv4 filter PYNET-FROM-N -j ACCEPT"""
    )


def test_without_masquerade_only_what_came_by_a_published_port_is_masqueraded():
    text = render(plan_network(network(options=NetworkOptions(masquerade=False))))
    assert "-s 10.9.0.0/24 ! -o" not in text
    assert "-s 10.9.0.0/24 -o pn-1a2b3c4d -m conntrack --ctstate DNAT -j MASQUERADE" in text


def test_an_endpoint():
    assert (
        render(plan_endpoint(endpoint(), network()))
        == """\
veth pnve1e2e3e4 pnce1e2e3e4 02:42:0a:09:00:02 in pn-1a2b3c4d
sysctl net/ipv6/conf/pnve1e2e3e4/disable_ipv6 = 1"""
    )


def test_an_endpoint_with_ports():
    assert (
        render(plan_endpoint(endpoint(WEB, DNS_LOCAL), network()))
        == """\
veth pnve1e2e3e4 pnce1e2e3e4 02:42:0a:09:00:02 in pn-1a2b3c4d hairpin
sysctl net/ipv6/conf/pnve1e2e3e4/disable_ipv6 = 1
port 0.0.0.0 8080/tcp
port 127.0.0.1 5353/udp
ipv4 nat PYNET-DNAT -j PYNET-DNAT-E
ipv4 nat PYNET-DNAT-E -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.9.0.2:80
ipv4 nat PYNET-DNAT-E -d 127.0.0.1/32 -p udp -m udp --dport 5353 -j DNAT --to-destination 10.9.0.2:53"""
    )


def test_an_endpoint_with_a_port_in_both_families():
    lines = render(plan_endpoint(endpoint(WEB_DUAL, dual=True), network(dual=True))).splitlines()
    assert lines[2:4] == ["port 0.0.0.0 8080/tcp", "port :: 8080/tcp"]
    assert lines[-1] == "ipv6 nat PYNET-DNAT-E -p tcp -m tcp --dport 8080 -j DNAT --to-destination [fd09::2]:80"


def test_containers_that_may_not_meet_are_isolated_ports():
    text = render(plan_endpoint(endpoint(), network(options=NetworkOptions(icc=False))))
    assert text.splitlines()[0].endswith(" isolated")


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
@pytest.mark.parametrize("mode4", ["nat", "nat-unprotected", "routed"])
def test_containers_that_may_not_meet_do_not_by_way_of_the_gateway(backend, mode4):
    apart = network(options=replace(mode(mode4), icc=False))
    lines = render(plan_network(apart, backend)).splitlines()
    entering = [line for line in lines if line.startswith(("ipv4 mangle PYNET-ENTER-N ", "nft ipv4 to-N "))]
    words = ("PYNET-ENTER-N -i pn-1a2b3c4d", 'iifname "pn-1a2b3c4d"')
    passing = [line for line in entering if line.lower().endswith(("accept", "return"))]
    assert not [line for line in passing if any(word in line for word in words)]
    drops = [line for line in entering if line.lower().endswith("drop")]
    assert len(drops) == 1


def test_frames_of_an_endpoint_are_redirected_to_one_place():
    rate = NetworkOptions(egress_rate=10_000_000, icc=False)
    apart = NetworkOptions(icc=False)
    addresses = (ip_address("10.9.0.2"), ip_address("fd09::2"))
    bridge, mac = "pn-1a2b3c4d", "02:42:0a:09:00:02"

    def redirected(options, **rates):
        held = replace(endpoint(dual=True), options=EndpointOptions(**rates))
        planned = plan_endpoint(held, network(dual=True, options=options))
        return [want for want in planned if isinstance(want, Redirect)]

    assert redirected(rate, egress_rate=5_000_000) == [Redirect("pnve1e2e3e4", "pnie1e2e3e4")]
    assert redirected(rate) == [Redirect("pnve1e2e3e4", "pno1a2b3c4d", bridge)]
    assert redirected(apart) == [Redirect("pnve1e2e3e4", bridge, bridge, mac, addresses)]
    assert redirected(NetworkOptions()) == []


def test_a_network_in_nftables_needs_exceptions_in_iptables():
    lines = render(plan_network(network(), "nftables")).splitlines()
    assert (
        "\n".join(lines[5:])
        == """\
nft ipv4 to_network pn-1a2b3c4d : to-N
nft ipv4 to-N ct state established,related accept
nft ipv4 to-N iifname "pn-1a2b3c4d" accept
nft ipv4 to-N ct status dnat accept
nft ipv4 to-N drop
nft ipv4 from_network pn-1a2b3c4d : from-N
nft ipv4 from-N ct state established,related accept
nft ipv4 from-N ct status dnat accept
nft ipv4 from-N jump foreign
nft ipv4 from-N accept
nft ipv4 snat_from pn-1a2b3c4d : snat-from-N
nft ipv4 snat-from-N ip saddr 10.9.0.0/24 oifname != "pn-1a2b3c4d" masquerade
nft ipv4 snat_to pn-1a2b3c4d : snat-to-N
nft ipv4 snat-to-N ip saddr 10.9.0.0/24 ct status dnat masquerade
nft ipv4 snat-to-N ip saddr 127.0.0.0/8 masquerade
nft ipv4 to_host pn-1a2b3c4d : host-N
nft ipv4 host-N ip daddr 127.0.0.0/8 ct state != { established, related } drop
ipv4 filter PYNET-TO -o pn-1a2b3c4d -j PYNET-TO-N
ipv4 filter PYNET-TO-N -j ACCEPT
ipv4 filter PYNET-FROM -i pn-1a2b3c4d -j PYNET-FROM-N
ipv4 filter PYNET-FROM-N -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
ipv4 filter PYNET-FROM-N -m conntrack --ctstate DNAT -j RETURN
ipv4 filter PYNET-FROM-N -j ACCEPT"""
    )


def test_ports_in_nftables_are_elements():
    assert render(plan_endpoint(endpoint(WEB, DNS_LOCAL), network(), "nftables")).splitlines()[-2:] == [
        "nft ipv4 ports_any 060000001f900000 : 0a09000200500000",
        "nft ipv4 ports_addr 7f0000011100000014e90000 : 0a09000200350000",
    ]


TEN_THOUSAND = PublishedPort("tcp", 20000, 20000, ANY4, None, 10000)
SHIFTED = PublishedPort("udp", 80, 30000, ANY4, None, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ten_thousand_ports_are_one_object_each(backend):
    lines = render(plan_endpoint(endpoint(TEN_THOUSAND), network(), backend)).splitlines()
    assert (
        lines[2:]
        == {
            "iptables": [
                "port 0.0.0.0 20000/tcp x10000",
                "ipv4 nat PYNET-DNAT -j PYNET-DNAT-E",
                "ipv4 nat PYNET-DNAT-E -p tcp -m tcp --dport 20000:29999 -j DNAT --to-destination 10.9.0.2",
            ],
            "nftables": [
                "port 0.0.0.0 20000/tcp x10000",
                "nft ipv4 ranges_any 060000004e200000-06000000752f0000 : 0a090002",
            ],
        }[backend]
    )


def test_a_shifted_run_names_its_base_in_iptables_and_is_an_element_a_port_in_nftables():
    assert render(plan_endpoint(endpoint(SHIFTED), network())).endswith(
        "-p udp -m udp --dport 30000:30002 -j DNAT --to-destination 10.9.0.2:80-82/30000"
    )
    assert render(plan_endpoint(endpoint(SHIFTED), network(), "nftables")).splitlines()[-3:] == [
        f"nft ipv4 ports_any 110000007{port}0000 : 0a090002{target}0000"
        for port, target in (("530", "0050"), ("531", "0051"), ("532", "0052"))
    ]


def mode(word, **options):
    return NetworkOptions(gateway_mode_ipv4=word, **options)


def test_a_routed_network_translates_nothing_and_opens_ports_of_containers():
    routed = network(options=mode("routed"))
    text = render(plan_network(routed))
    assert " nat " not in text
    assert "route_localnet" not in text
    assert "ipv4 mangle PYNET-ENTER-N -p icmp -j RETURN\nipv4 mangle PYNET-ENTER-N -j PYNET-OPEN\n" in text
    assert render(plan_endpoint(endpoint(WEB), routed)).splitlines()[2:] == [
        "ipv4 mangle PYNET-OPEN -d 10.9.0.2/32 -j PYNET-OPEN-E",
        "ipv4 mangle PYNET-OPEN-E -p tcp -m tcp --dport 80 -j ACCEPT",
    ]
    assert render(plan_endpoint(endpoint(WEB), routed, "nftables")).splitlines()[2:] == [
        "nft ipv4 open_ports 0a0900020600000000500000 : "
    ]


def test_an_unprotected_network_lets_everything_in():
    text = render(plan_network(network(options=mode("nat-unprotected"))))
    assert "PYNET-ENTER-N" in text
    assert "PYNET-ENTER-N -j DROP" not in text
    assert "MASQUERADE" in text


def test_an_isolated_network_has_no_address_on_the_host():
    lines = render(plan_network(network(internal=True, options=mode("isolated")))).splitlines()
    assert lines[0] == "bridge pn-1a2b3c4d 02:af:3d:5b:a9:4e mtu 1500 "
    assert "ipv4 mangle PYNET-ENTER-N -j DROP" in lines


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_chosen_source_address(backend):
    text = render(plan_network(network(options=NetworkOptions(host_ipv4=IPv4Address("10.0.0.7"))), backend))
    assert {"iptables": "-j SNAT --to-source 10.0.0.7", "nftables": "snat to 10.0.0.7"}[backend] in text


@pytest.mark.parametrize("backend", BACKENDS)
def test_trusted_interfaces(backend):
    text = render(plan_network(network(options=NetworkOptions(trusted_host_interfaces=("wg0", "eth1"))), backend))
    for interface in ("wg0", "eth1"):
        assert {
            "iptables": f"PYNET-ENTER-N -i {interface} -j RETURN",
            "nftables": f'to-N iifname "{interface}" accept',
        }[backend] in text


def test_who_may_reach_published_ports():
    limited = network(options=NetworkOptions(publish_from=("localhost", "10.0.0.0/8", "fd00::/8")))
    rules = [line for line in render(plan_endpoint(endpoint(WEB), limited)).splitlines() if "DNAT-E -" in line]
    assert [rule.split("PYNET-DNAT-E ", 1)[1].split(" -j DNAT")[0] for rule in rules if "--dport" in rule] == [
        "-p tcp -m tcp --dport 8080 -m addrtype --src-type LOCAL",
        "-s 10.0.0.0/8 -p tcp -m tcp --dport 8080",
    ]
    text = render(plan_network(limited, "nftables"))
    assert (
        "limit-N fib saddr type local return\nnft ipv4 limit-N ip saddr { 10.0.0.0/8 } return\nnft ipv4 limit-N accept"
        in text
    )
    assert render(plan_endpoint(endpoint(WEB), limited, "nftables")).splitlines()[-1] == (
        "nft ipv4 limit_ports_any 060000001f900000 : limit-n1a2b3c4d".replace("-n1a2b3c4d", "-N")
    )


def test_sources_of_the_other_family_alone_are_nobody_of_this_one():
    limited = network(options=NetworkOptions(publish_from=("fd00::/8",)))
    assert "--src-type LOCAL" in render(plan_endpoint(endpoint(WEB), limited))
    assert "-p tcp -m tcp --dport 8080 -j DNAT" not in render(plan_endpoint(endpoint(WEB), limited))


def test_a_bridge_of_somebody_else_keeps_its_settings():
    options = NetworkOptions(bridge_name="br-lan", inhibit_ipv4=True)
    resources = plan_network(replace(network(options=options), adopted=True))
    assert resources[0].adopted
    assert (resources[0].name, resources[0].addresses) == ("br-lan", ())
    assert "disable_ipv6" not in render(resources)


def test_rates_of_a_network_are_those_of_its_bridge_and_of_an_endpoint_those_of_its_pair():
    slow = network(options=NetworkOptions(egress_rate=10_000_000, burst=65536))
    assert Shaper("pn-1a2b3c4d", "pno1a2b3c4d", 10_000_000, None, 65536) in plan_network(slow)
    held = replace(endpoint(), options=EndpointOptions(ingress_rate=5_000_000))
    assert Shaper("pnve1e2e3e4", "pnie1e2e3e4", None, 5_000_000, None) in plan_endpoint(held, network())


def test_a_guard_names_all_that_an_endpoint_may_send_from():
    guarded = network(dual=True, options=NetworkOptions(anti_spoof=True))
    [guard] = [want for want in plan_endpoint(endpoint(dual=True), guarded) if isinstance(want, SourceGuard)]
    assert (guard.link, guard.mac) == ("pnve1e2e3e4", "02:42:0a:09:00:02")
    assert (*guard.addresses4, *guard.addresses6) == (ip_address("10.9.0.2"), ip_address("fd09::2"))


def test_what_an_administrator_publishes_has_sources_of_its_own():
    ours = Publication(PublishedPort("tcp", 81, 9000, ANY4, None, 2), ("10.0.0.0/8", "localhost"))
    anybodys = Publication(PublishedPort("udp", 53, 53, ANY4, None))
    published = replace(endpoint(WEB), publications=(ours, anybodys))
    rules = [line for line in render(plan_endpoint(published, network())).splitlines() if "DNAT-E -" in line]
    assert [
        rule.removeprefix("ipv4 nat PYNET-DNAT-E ").replace("-j DNAT --to-destination", "to") for rule in rules
    ] == [
        "-p tcp -m tcp --dport 8080 to 10.9.0.2:80",
        "-s 10.0.0.0/8 -p tcp -m tcp --dport 9000:9001 to 10.9.0.2:81-82/9000",
        "-p tcp -m tcp --dport 9000:9001 -m addrtype --src-type LOCAL to 10.9.0.2:81-82/9000",
        "-p udp -m udp --dport 53 to 10.9.0.2:53",
    ]
    lines = render(plan_endpoint(published, network(), "nftables")).splitlines()
    [chain] = {line.split()[2] for line in lines if line.startswith("nft ipv4 limit-")}
    assert [line.partition(f"{chain} ")[2] for line in lines if line.startswith(f"nft ipv4 {chain} ")] == [
        "fib saddr type local return", "ip saddr { 10.0.0.0/8 } return", "accept",
    ]  # fmt: skip
    assert [line for line in lines if line.endswith(f": {chain}")][1:] == [
        f"nft ipv4 limit_ranges_any 0600000023280000-0600000023290000 : {chain}"
    ]
