"""From requests to records: what is accepted, and that everything else is refused before anything is made."""

from ipaddress import IPv4Interface

import pytest
from msgspec import Raw

from netplugin import wire
from netplugin.options import EndpointOptions
from netplugin.parse import parse_endpoint, parse_network
from pluginkit.errors import BadRequest
from tests.network.samples import ENDPOINT_ID, NETWORK_ID, network


def create_network(pool="10.9.0.0/24", gateway="10.9.0.1/24", network_id=NETWORK_ID, **options):
    data = [wire.IPAMData(Pool=pool, Gateway=gateway, AddressSpace="Local")]
    return wire.CreateNetworkRequest(network_id, options, data, None)


def create_endpoint(**interface):
    return wire.CreateEndpointRequest(NETWORK_ID, ENDPOINT_ID, wire.EndpointInterface(**interface))


def test_only_options_without_a_dot_are_an_endpoints():
    asked = {"egress_rate": b'"10mbit"', "com.docker.network.portmap": b"never looked at", "com.example.rate": b'"1"'}
    interface = wire.EndpointInterface("10.9.0.2/24")
    request = wire.CreateEndpointRequest(NETWORK_ID, ENDPOINT_ID, interface, {k: Raw(v) for k, v in asked.items()})
    assert parse_endpoint(request, network()).options == EndpointOptions(egress_rate=10_000_000)


def test_a_network_of_the_engines_words():
    assert parse_network(create_network()) == network()


def test_a_network_without_a_gateway_has_a_bridge_without_an_address():
    assert parse_network(create_network(gateway="")).subnets4[0].gateway is None


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (create_network(network_id=""), "cannot use network ID ''"),
        (create_network(network_id="../../etc"), "cannot use network ID"),
        (create_network(network_id="x" * 65), "cannot use network ID"),
        (create_network(pool="10.9.0.7/24"), "has host bits set"),
        (create_network(pool="nonsense"), "cannot use the subnet 'nonsense'"),
        (create_network(pool="0.0.0.0/0"), "is no subnet"),
        (create_network(gateway="10.8.0.1/24"), "the gateway 10.8.0.1 is outside of the subnet 10.9.0.0/24"),
        (create_network(**{"com.docker.network.generic": "mtu=1400"}), "holds no options but str"),
        (wire.CreateNetworkRequest(NETWORK_ID), "it has no subnet"),
    ],
)
def test_what_cannot_be_a_network_is_refused(request_, reason):
    with pytest.raises(BadRequest, match=reason):
        parse_network(request_)


def test_a_mac_address_is_made_of_the_address():
    assert parse_endpoint(create_endpoint(Address="10.9.0.2/24"), network()).mac == "02:42:0a:09:00:02"


def test_a_mac_address_of_an_ipv6_endpoint_is_made_of_its_end():
    assert parse_endpoint(create_endpoint(AddressIPv6="fd09::a:b/64"), network()).mac == "02:42:00:0a:00:0b"


def test_a_mac_address_that_was_asked_for_is_taken():
    endpoint = parse_endpoint(create_endpoint(Address="10.9.0.2/24", MacAddress="02:AA:bb:cc:dd:ee"), network())
    assert (endpoint.mac, endpoint.address4) == ("02:aa:bb:cc:dd:ee", IPv4Interface("10.9.0.2/24"))


@pytest.mark.parametrize(
    ("interface", "reason"),
    [
        ({}, "it has no address"),
        ({"Address": "10.9.0/24"}, "cannot use the IPv4 address"),
        ({"AddressIPv6": "10.9.0.2/24"}, "cannot use the IPv6 address"),
        ({"Address": "10.9.0.2/24", "MacAddress": "02:42"}, "is no MAC address"),
        ({"Address": "10.9.0.2/24", "MacAddress": "$(reboot)"}, "is no MAC address"),
    ],
)
def test_what_cannot_be_an_endpoint_is_refused(interface, reason):
    with pytest.raises(BadRequest, match=reason):
        parse_endpoint(create_endpoint(**interface), network())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}, "add --internal"),
        (
            {"com.docker.network.bridge.gateway_mode_ipv4": "nat-unprotected", "publish_from": "lan"},
            "publish_from restricts",
        ),
        (
            {"com.docker.network.bridge.enable_ip_masquerade": "false", "com.docker.network.host_ipv4": "10.0.0.7"},
            "leave one of them out",
        ),
        (
            {"com.docker.network.bridge.gateway_mode_ipv4": "bridged"},
            "it takes nat, nat-unprotected, routed or iso",
        ),
        ({"com.docker.network.bridge.name": "sixteen-letters-"}, "it takes up to 15"),
        ({"com.docker.network.bridge.name": "all"}, "it takes up to 15"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, reason):
    with pytest.raises(BadRequest, match=reason):
        parse_network(create_network(**{"com.docker.network.generic": options}))


def test_an_internal_network_has_no_published_ports_to_restrict():
    internal = {"com.docker.network.internal": True, "com.docker.network.generic": {"publish_from": "lan"}}
    with pytest.raises(BadRequest, match="publishes no ports"):
        parse_network(create_network(**internal))


def test_several_subnets_of_a_family():
    data = [wire.IPAMData(f"10.{n}.0.0/24", f"10.{n}.0.1/24", "Local") for n in (8, 9)]
    parsed = parse_network(wire.CreateNetworkRequest(NETWORK_ID, {}, data))
    assert [str(subnet.gateway) for subnet in parsed.subnets4] == ["10.8.0.1", "10.9.0.1"]


def test_a_router_that_is_not_the_bridge():
    data = wire.IPAMData("10.9.0.0/24", "10.9.0.1/24", "Local", {"DefaultGatewayIPv4": "10.9.0.254/24"})
    [subnet] = parse_network(wire.CreateNetworkRequest(NETWORK_ID, {}, [data])).subnets4
    assert (str(subnet.gateway), str(subnet.router)) == ("10.9.0.1", "10.9.0.254")
