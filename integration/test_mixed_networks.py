"""One container on networks of two plugins and of the engine itself."""

from collections.abc import Iterator

import pytest

from integration.lab.circumstances import answering, outcome
from integration.lab.host import Host
from integration.lab.stub import stub_network
from integration.lab.wirehost import WireHost


@pytest.fixture
def stub(host: Host) -> Iterator[None]:
    """The host has another plugin's driver, with a network s1 of it."""
    with stub_network(host):
        yield
        host.docker("rm", "-f", *host.docker("ps", "-aq").split())


@pytest.mark.usefixtures("stub")
def test_each_does_its_part(host: Host, outside: WireHost) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    host.docker("network", "create", "-d", "bridge", "--subnet", "10.63.0.0/24", "made")
    host.idle("ours", "--network", "n1")
    host.idle("theirs", "--network", "made")
    host.web("ann", "--network", "n1", "-p", "8080:80")
    port = f"tcp {host.address} 8080"
    for network in ("s1", "made"):
        host.docker("network", "connect", network, "ann")
        assert outcome(outside, port) == "answered", network
    assert host.sh("ann", "ls /sys/class/net").split() == ["eth0", "eth1", "lo", "stub0"]
    assert "inet 10.64.0." in host.sh("ann", "ip address show dev stub0")
    neighbours = {
        "ours": f"ping {host.address_of('ours', 'n1')}",
        "theirs": f"ping {host.address_of('theirs', 'made')}",
        "world": f"ping {outside.address}",
    }
    assert answering(host, neighbours, host.network_of("ann")) == set(neighbours)
    host.docker("network", "disconnect", "s1", "ann")
    assert outcome(outside, port) == "answered"
    host.docker("network", "disconnect", "n1", "ann")
    assert "pnv" not in host.run("ip", "-brief", "link", "show", "master", bridge_of(host, "n1")).replace(
        f"pnv{endpoint_of(host, 'ours', 'n1')}", ""
    )
    host.docker("restart", "-t", "0", "ann")
    assert host.sh("ann", "ls /sys/class/net").split() == ["eth0", "lo"]


def bridge_of(host: Host, network: str) -> str:
    return "pn-" + host.docker("network", "inspect", "--format", "{{.Id}}", network)[:8]


def endpoint_of(host: Host, container: str, network: str) -> str:
    return host.facts(container, f'(index .NetworkSettings.Networks "{network}").EndpointID')[:8]
