"""Records and requests to test with."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from netplugin.options import NetworkOptions
from netplugin.records import Endpoint, Network, PublishedPort, Subnet

NETWORK_ID = "1a2b3c4d" * 8
ENDPOINT_ID = "e1e2e3e4" * 8
OTHER_ENDPOINT_ID = "f1f2f3f4" * 8

SUBNET4 = Subnet(IPv4Network("10.9.0.0/24"), IPv4Address("10.9.0.1"), "Local")
SUBNET6 = Subnet(IPv6Network("fd09::/64"), IPv6Address("fd09::1"), "Local")
ANY4, ANY6 = IPv4Address("0.0.0.0"), IPv6Address("::")


def network(
    *,
    dual: bool = False,
    internal: bool = False,
    options: NetworkOptions = NetworkOptions(),  # noqa: B008
) -> Network:
    return Network(NETWORK_ID, (SUBNET4,), (SUBNET6,) if dual else (), internal, options)


def endpoint(*ports: PublishedPort, dual: bool = False, sandbox: str = "") -> Endpoint:
    return Endpoint(
        ENDPOINT_ID,
        NETWORK_ID,
        IPv4Interface("10.9.0.2/24"),
        IPv6Interface("fd09::2/64") if dual else None,
        "02:42:0a:09:00:02",
        sandbox,
        ports,
    )


WEB = PublishedPort("tcp", 80, 8080, ANY4, None)
WEB_DUAL = PublishedPort("tcp", 80, 8080, ANY4, ANY6)
DNS_LOCAL = PublishedPort("udp", 53, 5353, IPv4Address("127.0.0.1"), None)
