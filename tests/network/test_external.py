"""From the engine's port map to ports of the host."""

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from netplugin.external import choose_ports, parse_port_map, runs_of
from netplugin.options import NetworkOptions
from netplugin.records import PublishedPort
from netplugin.wire import ExternalConnectivityRequest, PortBinding, PublishedRun
from pluginkit import wire
from pluginkit.errors import BadRequest, Exhausted
from tests.network.samples import ANY4, ANY6, ENDPOINT_ID, NETWORK_ID, endpoint, network

EPHEMERAL = range(40000, 40004)


def free_except(*taken):
    return lambda protocol, addresses, port: (protocol, port) not in taken


def port_map(options):
    body = {"NetworkID": NETWORK_ID, "EndpointID": ENDPOINT_ID, "Options": options}
    return parse_port_map(wire.decode(json.dumps(body).encode(), ExternalConnectivityRequest).Options)


def choose(*bindings, dual=False, options=NetworkOptions(), is_free=free_except()):  # noqa: B008
    return choose_ports(bindings, network(dual=dual, options=options), endpoint(dual=dual), EPHEMERAL, is_free)


def test_a_plain_port_is_open_on_all_addresses_of_the_families_that_the_endpoint_has():
    binding = PortBinding(6, 80, HostPort=8080, HostPortEnd=8080)
    assert choose(binding) == (PublishedPort("tcp", 80, 8080, ANY4, None),)
    assert choose(binding, dual=True) == (PublishedPort("tcp", 80, 8080, ANY4, ANY6),)


@pytest.mark.parametrize(
    ("host_ip", "host4", "host6"),
    [("127.0.0.1", IPv4Address("127.0.0.1"), None), ("fd00::5", None, IPv6Address("fd00::5")), ("::", None, ANY6)],
)
def test_a_port_on_one_address(host_ip, host4, host6):
    [port] = choose(PortBinding(17, 53, HostIP=host_ip, HostPort=53), dual=True)
    assert (port.host4, port.host6) == (host4, host6)


def test_the_default_address_of_the_network_is_ipv4_only():
    options = NetworkOptions(host_binding_ipv4=IPv4Address("10.0.0.7"))
    [port] = choose(PortBinding(6, 80, HostPort=80), dual=True, options=options)
    assert (port.host4, port.host6) == (IPv4Address("10.0.0.7"), None)


def test_all_ipv6_addresses_of_an_ipv4_endpoint_are_none():
    assert choose(PortBinding(6, 80, HostIP="::", HostPort=80)) == ()


def test_a_single_port_is_chosen_even_if_taken_so_that_the_error_can_name_the_holder():
    assert choose(PortBinding(6, 80, HostPort=80), is_free=free_except(("tcp", 80)))[0].host_port == 80


def test_a_range_gives_its_first_free_port_to_each_binding():
    bindings = [PortBinding(6, port, HostPort=9000, HostPortEnd=9003) for port in (80, 81)]
    assert choose(*bindings, is_free=free_except(("tcp", 9000))) == (PublishedPort("tcp", 80, 9001, ANY4, None, 2),)


def test_ephemeral_ports_are_distinct_and_protocols_do_not_meet():
    ports = choose(*[PortBinding(6, port) for port in (1, 3, 5, 7)], PortBinding(17, 1))
    assert {port.host_port for port in ports if port.protocol == "tcp"} == set(EPHEMERAL)


def test_neighbouring_ports_are_one_run_in_whatever_order_they_come():
    wire = [PortBinding(6, port, HostPort=port + 1000, HostPortEnd=port + 1000) for port in range(20000, 30000)]
    shuffled = wire[::2] + wire[1::2][::-1]
    assert choose(*shuffled) == (PublishedPort("tcp", 20000, 21000, ANY4, None, 10000),)


def test_runs_end_where_numbers_addresses_or_protocols_differ():
    ports = choose(
        PortBinding(6, 80, HostPort=8080),
        PortBinding(6, 81, HostPort=8081),
        PortBinding(6, 83, HostPort=8082),
        PortBinding(6, 84, HostPort=8083, HostIP="127.0.0.1"),
        PortBinding(17, 82, HostPort=8082),
    )
    assert sorted((port.protocol, port.host_port, port.count) for port in ports) == [
        ("tcp", 8080, 2),
        ("tcp", 8082, 1),
        ("tcp", 8083, 1),
        ("udp", 8082, 1),
    ]


def test_the_same_binding_twice_is_one_port():
    assert len(choose(*[PortBinding(6, 80, HostPort=8080)] * 2)) == 1


@pytest.mark.parametrize(("taken", "expected"), [((), 40002), ((("tcp", 40002),), 40003)])
def test_an_endpoint_gets_its_former_port_again_if_that_is_free(taken, expected):
    former = replace(endpoint(), former_ports=(PublishedPort("tcp", 80, 40002, ANY4, None),))
    [port] = choose_ports([PortBinding(6, 80)], network(), former, range(40002, 40004), free_except(*taken))
    assert port.host_port == expected


def test_no_free_port_is_an_error_that_names_the_range():
    with pytest.raises(Exhausted, match=r"cannot publish port 9/tcp: all ports are allocated in 40000-40003"):
        choose(*[PortBinding(6, port) for port in (9, 9, 9, 9, 9)])


@pytest.mark.parametrize(
    ("host_ip", "reason"),
    [("::1", "no IPv6 loopback"), ("nonsense", "it is no IP address")],
)
def test_addresses_that_cannot_work_are_refused(host_ip, reason):
    with pytest.raises(BadRequest, match=reason):
        choose(PortBinding(6, 80, HostIP=host_ip, HostPort=80), dual=True)


def test_an_address_of_a_family_that_the_endpoint_lacks_is_refused():
    with pytest.raises(BadRequest, match="has no address of that family"):
        choose(PortBinding(6, 80, HostIP="fd00::5", HostPort=80))


def test_the_port_map_of_the_engine():
    binding = {"Proto": 6, "Port": 80, "HostIP": "", "HostPort": 8080, "Extra": 1}
    assert port_map({"com.docker.network.portmap": [binding], "another": {"of": ["the", "engine"]}}) == (
        PortBinding(6, 80, HostPort=8080),
    )


@pytest.mark.parametrize("options", [None, {}, {"com.docker.network.portmap": None}])
def test_no_port_map_is_no_ports(options):
    assert port_map(options) == ()


@pytest.mark.parametrize(
    "entry",
    [
        {"Proto": 1, "Port": 80},
        {"Proto": 6, "Port": 0},
        {"Proto": 6, "Port": 65536},
        {"Proto": 6, "Port": 80, "HostPort": -1},
        {"Proto": 6, "Port": 80, "HostPort": 1, "HostPortEnd": 70000},
        {"Proto": "tcp", "Port": 80},
        {"Port": 80},
        "80:80",
    ],
)
def test_bad_entries_are_refused(entry):
    with pytest.raises(BadRequest):
        port_map({"com.docker.network.portmap": [entry]})


def test_a_run_is_told_in_one_entry_for_each_address_on_which_it_is_open():
    run = PublishedPort("udp", 80, 9000, ANY4, ANY6, 1000)
    assert runs_of([run]) == [
        PublishedRun(17, 80, 1079, "0.0.0.0", 9000, 9999),
        PublishedRun(17, 80, 1079, "::", 9000, 9999),
    ]
