"""Unusual sets of addresses: IPv6 alone, several subnets, link-local addresses."""

import json

import pytest

from integration.lab.engine import SOCKET
from integration.lab.host import Host
from integration.lab.wirehost import WireHost


def create_by_api(host: Host, **fields: object) -> None:
    """The network n1 exists; for what the command line of some engine has no flag for."""
    body = json.dumps({"Name": "n1", "Driver": host.drivers.network, **fields})
    kind = "Content-Type: application/json"
    said = host.run("curl", "-sf", "--unix-socket", SOCKET, "-H", kind, "-d", body, "http://engine/networks/create")
    assert "Id" in json.loads(said)


@pytest.mark.everywhere
def test_ipv6_alone(host: Host, outside: WireHost) -> None:
    """Docker 28 can leave IPv4 out; engines before it ignore the field, and inspect does not show it."""
    create_by_api(host, EnableIPv4=False, EnableIPv6=True, IPAM={"Config": [{"Subnet": "fd61::/64"}]})
    [inspected] = json.loads(host.docker("network", "inspect", "n1"))
    host.web("ann", "--network", "n1", "-p", "8080:80")
    assert bool(host.address_of("ann", "n1")) == inspected.get("EnableIPv4", True)
    assert outside.ask("http", host.address6, 8080) == outside.address6
    name = "http://ann/" if inspected.get("EnableIPv4", True) else "http://[fd61::2]/"
    assert host.once(f"wget -qO- {name}", "--network", "n1") == "lab"
    with outside.answering("tcp", 9000):
        assert host.ask("tcp", outside.address6, 9000, entering=host.network_of("ann")) == host.address6


def test_several_subnets(host: Host, outside: WireHost) -> None:
    pairs = [("10.61.0.0/24", "10.61.0.1"), ("10.62.0.0/24", "10.62.0.1")]
    options = [word for subnet, gateway in pairs for word in ("--subnet", subnet, "--gateway", gateway)]
    host.docker("network", "create", "-d", host.drivers.network, *options, "n1")
    host.web("ann", "--network", "n1", "--ip", "10.61.0.10")
    host.idle("bob", "--network", "n1", "--ip", "10.62.0.10")
    inside = host.network_of("bob")
    assert "default via 10.62.0.1 " in host.sh("bob", "ip route")
    assert host.ask("http", "10.61.0.10", 80, "/", entering=inside) == "lab"
    with outside.answering("tcp", 9000):
        assert host.ask("tcp", outside.address, 9000, entering=inside) == host.address


def test_a_link_local_address(host: Host) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    host.web("ann", "--network", "n1", "--link-local-ip", "169.254.7.8")
    options = ("--network", "n1", "--link-local-ip", "169.254.7.9")
    assert host.once("wget -qO- http://169.254.7.8/", *options) == "lab"
