"""anti_spoof=true: a container that takes another address is cut off."""

import pytest

from integration.lab.circumstances import outcome
from integration.lab.host import Host

GATEWAY = "10.61.0.1"


def start(host: Host, *options: str) -> tuple[str, ...]:
    """Two containers, ann and bob; the command that enters ann's network is returned."""
    subnets = ["--subnet", "10.61.0.0/24", "--ipv6", "--subnet", "fd61::/64"]
    host.docker("network", "create", "-d", host.drivers.network, *subnets, *options, "n1")
    host.idle("ann", "--network", "n1", "--ip", "10.61.0.10", "--ip6", "fd61::10")
    host.idle("bob", "--network", "n1", "--ip", "10.61.0.11", "--ip6", "fd61::11")
    return host.network_of("ann")


def reaches(host: Host, inside: tuple[str, ...]) -> dict[str, bool]:
    targets = {"gateway": f"ping {GATEWAY}", "neighbour": "ping 10.61.0.11", "neighbour6": "ping fd61::11"}
    return {name: outcome(host, target, inside) == "answered" for name, target in targets.items()}


@pytest.mark.parametrize("guarded", [True, False])
def test_another_ip_address(host: Host, guarded: bool) -> None:
    inside = start(host, "-o", f"anti_spoof={str(guarded).lower()}")
    assert all(reaches(host, inside).values())
    host.run(*inside, "ip", "address", "replace", "10.61.0.99/24", "dev", "eth0")
    host.run(*inside, "ip", "address", "del", "10.61.0.10/24", "dev", "eth0")
    host.run(*inside, "ip", "address", "replace", "10.61.0.99/24", "dev", "eth0")
    seen = reaches(host, inside)
    assert (seen["gateway"], seen["neighbour"]) == (not guarded, not guarded)
    assert seen["neighbour6"], "the address that was given still works"


@pytest.mark.parametrize("guarded", [True, False])
def test_another_mac_address(host: Host, guarded: bool) -> None:
    inside = start(host, "-o", f"anti_spoof={str(guarded).lower()}")
    mac = host.sh("ann", "cat /sys/class/net/eth0/address")
    host.run(*inside, "ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
    assert outcome(host, f"ping {GATEWAY}", inside) == ("silent" if guarded else "answered")
    host.run(*inside, "ip", "link", "set", "eth0", "address", mac)
    assert outcome(host, f"ping {GATEWAY}", inside) == "answered"


def test_it_holds_after_a_restart_of_the_container(host: Host) -> None:
    start(host, "-o", "anti_spoof=true")
    host.docker("restart", "-t", "0", "ann")
    inside = host.network_of("ann")
    assert all(reaches(host, inside).values())
    host.run(*inside, "ip", "address", "add", "10.61.0.99/24", "dev", "eth0")
    host.run(*inside, "ip", "address", "del", "10.61.0.10/24", "dev", "eth0")
    host.run(*inside, "ip", "address", "replace", "10.61.0.99/24", "dev", "eth0")
    assert outcome(host, f"ping {GATEWAY}", inside) == "silent"
