"""Golden text of everything that a record wants in the kernel."""

from netplugin.options import NetworkOptions
from netplugin.plan import plan_endpoint, plan_network
from netplugin.resources import Bridge, HostPort, Ruleset, Sysctl, Veth
from tests.network.samples import DNS_LOCAL, WEB, WEB_DUAL, endpoint, network


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
            case HostPort():
                lines.append(f"port {want.address} {want.port}/{want.protocol}")
            case Ruleset():
                for chain in want.chains:
                    where = f"{want.family} {chain.jump.table}"
                    lines.append(f"{where} {chain.jump.parent} {chain.jump.rule}")
                    lines += [f"{where} {chain.name} {rule}" for rule in chain.rules]
    return "\n".join(lines).replace("-n1a2b3c4d", "-N").replace("-ee1e2e3e4", "-E")


def test_a_network():
    assert (
        render(plan_network(network(), None))
        == """\
bridge pn-1a2b3c4d 02:af:3d:5b:a9:4e mtu 1500 10.9.0.1/24
sysctl net/ipv6/conf/pn-1a2b3c4d/disable_ipv6 = 1
sysctl net/ipv4/ip_forward = 1
sysctl net/ipv4/conf/pn-1a2b3c4d/route_localnet = 1
ipv4 filter PYNET-TO -o pn-1a2b3c4d -j PYNET-TO-N
ipv4 filter PYNET-TO-N -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
ipv4 filter PYNET-TO-N -i pn-1a2b3c4d -j ACCEPT
ipv4 filter PYNET-TO-N -m conntrack --ctstate DNAT -j ACCEPT
ipv4 filter PYNET-TO-N -j DROP
ipv4 filter PYNET-FROM -i pn-1a2b3c4d -j PYNET-FROM-N
ipv4 filter PYNET-FROM-N -j ACCEPT
ipv4 nat PYNET-SNAT -j PYNET-SNAT-N
ipv4 nat PYNET-SNAT-N -s 10.9.0.0/24 ! -o pn-1a2b3c4d -j MASQUERADE
ipv4 nat PYNET-SNAT-N -s 10.9.0.0/24 -o pn-1a2b3c4d -m conntrack --ctstate DNAT -j MASQUERADE
ipv4 nat PYNET-SNAT-N -s 127.0.0.0/8 -o pn-1a2b3c4d -j MASQUERADE
ipv4 filter PYNET-INPUT -i pn-1a2b3c4d -j PYNET-INPUT-N
ipv4 filter PYNET-INPUT-N -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP"""
    )


def test_a_network_of_both_families():
    lines = render(plan_network(network(dual=True), None)).splitlines()
    assert lines[0] == "bridge pn-1a2b3c4d 02:af:3d:5b:a9:4e mtu 1500 10.9.0.1/24 fd09::1/64"
    assert "sysctl net/ipv6/conf/pn-1a2b3c4d/disable_ipv6 = 0" in lines
    assert "sysctl net/ipv6/conf/pn-1a2b3c4d/accept_ra = 0" in lines
    assert "sysctl net/ipv6/conf/all/forwarding = 1" in lines
    assert "ipv6 nat PYNET-SNAT-N -s fd09::/64 ! -o pn-1a2b3c4d -j MASQUERADE" in lines
    assert not [line for line in lines if line.startswith("ipv6") and "127.0.0.0" in line]


def test_an_internal_network_leads_nowhere():
    assert (
        render(plan_network(network(internal=True), None))
        == """\
bridge pn-1a2b3c4d 02:af:3d:5b:a9:4e mtu 1500 10.9.0.1/24
sysctl net/ipv6/conf/pn-1a2b3c4d/disable_ipv6 = 1
ipv4 filter PYNET-TO -o pn-1a2b3c4d -j PYNET-TO-N
ipv4 filter PYNET-TO-N -i pn-1a2b3c4d -j ACCEPT
ipv4 filter PYNET-TO-N -j DROP
ipv4 filter PYNET-FROM -i pn-1a2b3c4d -j PYNET-FROM-N
ipv4 filter PYNET-FROM-N -j DROP"""
    )


def test_without_masquerade_only_what_came_by_a_published_port_is_masqueraded():
    text = render(plan_network(network(options=NetworkOptions(masquerade=False)), None))
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
