"""Next to the engine's own bridge networks and the administrator's rules."""

import contextlib

import pytest

from integration.lab.circumstances import answering, forward_policy, outcome, route, rule
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

PORT = "tcp {} 8080"
WITHIN_S = 2.0


@pytest.fixture
def ours(host: Host) -> str:
    """The address of a container of ours that serves port 80, published as 8080."""
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    host.web("ours", "--network", "n1", "--ip", "10.61.0.10", "-p", "8080:80")
    return "10.61.0.10"


@pytest.mark.everywhere
@pytest.mark.parametrize("policy", ["ACCEPT", "DROP"])
@pytest.mark.parametrize("network", ["bridge", "made"])
def test_neither_reaches_the_other_but_what_is_published(host: Host, ours: str, policy: str, network: str) -> None:
    if network == "made":
        host.docker("network", "create", "-d", "bridge", "--subnet", "10.63.0.0/24", "made")
    host.web("theirs", "--network", network, "-p", "8081:80")
    theirs = host.address_of("theirs", network)
    with forward_policy(host, policy):
        to_us = {"port": f"tcp {ours} 80", "ping": f"ping {ours}", "published": f"tcp {host.address} 8080"}
        to_them = {"port": f"tcp {theirs} 80", "ping": f"ping {theirs}", "published": f"tcp {host.address} 8081"}
        assert answering(host, to_us, host.network_of("theirs")) == {"published"}
        assert answering(host, to_them, host.network_of("ours")) == {"published"}
        assert answering(host, to_us) == answering(host, to_them) == {"port", "ping", "published"}


@pytest.mark.usefixtures("ours")
def test_a_network_of_the_engine_works_as_before(host: Host, outside: WireHost) -> None:
    host.web("theirs", "-p", "8081:80")
    host.sh("theirs", f"ping -c1 -W3 -w5 {outside.address}")
    assert outcome(outside, f"tcp {host.address} 8081") == "answered"
    host.docker("rm", "-f", "theirs")
    assert outcome(outside, PORT.format(host.address)) == "answered"


@pytest.mark.usefixtures("ours")
def test_the_administrators_rules_come_first(host: Host, outside: WireHost) -> None:
    port = PORT.format(host.address)
    assert outcome(outside, port) == "answered"
    with rule(host, "DOCKER-USER -i eth0 -p tcp --dport 80 -j DROP"):
        assert outcome(outside, port) == "silent"
        assert outcome(host, port) == "answered"
    with rule(host, "DOCKER-USER -i eth0 -m conntrack --ctorigdstport 8080 -j REJECT"):
        assert outcome(outside, port) == "refused"
    assert outcome(outside, port) == "answered"


@pytest.mark.usefixtures("ours")
def test_the_administrators_rules_hold_for_the_way_out_too(host: Host, outside: WireHost) -> None:
    inside = host.network_of("ours")
    with outside.answering("tcp", 9000), outside.answering("tcp", 9001):
        with rule(host, "DOCKER-USER -s 10.61.0.0/24 -p tcp --dport 9000 -j DROP"):
            assert outcome(host, f"tcp {outside.address} 9000", inside) == "silent"
            assert outcome(host, f"tcp {outside.address} 9001", inside) == "answered"


def test_a_restart_of_the_engine_leaves_the_order(host: Host, ours: str, outside: WireHost) -> None:
    """The engine puts its jumps first when it starts; ours and the administrator's still count."""
    host.docker("rm", "-f", "ours")
    host.engine.stop()
    host.engine.start(timeout_s=60)
    host.web("ours", "--network", "n1", "--ip", ours, "-p", "8080:80")
    port = PORT.format(host.address)
    assert outcome(outside, port) == "answered"
    with rule(host, "DOCKER-USER -i eth0 -p tcp --dport 80 -j DROP"):
        # The engine moves its own jumps while it starts: self-repair has its time.
        wait_for("the administrator's rule counts", lambda: outcome(outside, port) == "silent", WITHIN_S)
    with route(outside, f"10.61.0.0/24 via {host.address}"):
        assert outcome(outside, f"tcp {ours} 80") == "silent"


@pytest.mark.usefixtures("ours")
def test_one_container_on_networks_of_both(host: Host, outside: WireHost) -> None:
    host.docker("network", "create", "-d", "bridge", "--subnet", "10.63.0.0/24", "made")
    host.idle("friend", "--network", "made")
    host.docker("network", "connect", "made", "ours")
    inside = host.network_of("ours")
    friend = host.address_of("friend", "made")
    assert answering(host, {"friend": f"ping {friend}", "world": f"ping {outside.address}"}, inside) == {
        "friend", "world",
    }  # fmt: skip
    assert outcome(host, f"tcp {host.address_of('ours', 'made')} 80", host.network_of("friend")) == "answered"
    assert outcome(outside, PORT.format(host.address)) == "answered"
    host.docker("network", "disconnect", "n1", "ours")
    host.docker("network", "connect", "n1", "ours")
    with contextlib.suppress(AssertionError):
        host.docker("network", "disconnect", "made", "ours")
    assert outcome(outside, PORT.format(host.address)) == "answered"
