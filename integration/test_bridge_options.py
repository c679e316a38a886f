"""Options of the bridge and of the containers' interfaces: its name, who made it, its addresses, the MTU."""

import json

import pytest

from integration.lab.circumstances import address, changed
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

SUBNET = "10.61.0.0/24"
PING = "ping -c1 -W3 -w5"
BRIDGE = "com.docker.network.bridge"


def create(host: Host, *options: str, subnet: str = SUBNET) -> None:
    given = [word for option in options for word in ("-o", option)]
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", subnet, *given, "n1")


def addresses(host: Host, link: str) -> list[str]:
    """The IPv4 addresses of a link of the host."""
    return host.run("ip", "-4", "-brief", "address", "show", "dev", link).split()[2:]


def test_a_bridge_of_ones_own_name_goes_with_its_network(host: Host, outside: WireHost) -> None:
    create(host, f"{BRIDGE}.name=lan7")
    assert addresses(host, "lan7") == ["10.61.0.1/24"]
    host.once(f"{PING} {outside.address}", "--network", "n1")
    host.docker("network", "rm", "n1")
    assert "lan7" not in host.run("ip", "link")


def test_an_existing_bridge_is_used_and_kept_with_its_address(host: Host, outside: WireHost) -> None:
    add = "ip link add lan7 address 02:00:00:00:00:07 type bridge"
    make = f"{add} && ip address add 10.61.0.1/24 dev lan7 && ip link set lan7 up"
    with changed(host, make, "ip link del lan7"):
        before = settings(host, "lan7")
        create(host, f"{BRIDGE}.name=lan7")
        host.web("ann", "--network", "n1", "-p", "8080:80")
        assert outside.ask("http", host.address, 8080) == outside.address
        host.sh("ann", f"{PING} 10.61.0.1 && {PING} {outside.address}")
        host.docker("rm", "-f", "ann")
        host.docker("network", "rm", "n1")
        assert addresses(host, "lan7") == ["10.61.0.1/24"]
        assert '"master"' not in host.run("ip", "-json", "link")
        assert settings(host, "lan7") == before


def settings(host: Host, link: str) -> tuple[object, ...]:
    (found,) = json.loads(host.run("ip", "-json", "link", "show", link))
    return found["address"], found["mtu"], found.get("ifalias"), "UP" in found["flags"]


def test_an_address_that_was_not_there_before_is_taken_away_again(host: Host) -> None:
    make = "ip link add lan7 type bridge && ip address add 10.99.0.1/24 dev lan7 && ip link set lan7 up"
    with changed(host, make, "ip link del lan7"):
        create(host, f"{BRIDGE}.name=lan7")
        assert addresses(host, "lan7") == ["10.99.0.1/24", "10.61.0.1/24"]
        host.once(f"{PING} 10.61.0.1", "--network", "n1")
        host.docker("network", "rm", "n1")
        assert addresses(host, "lan7") == ["10.99.0.1/24"]


def test_two_networks_do_not_share_a_bridge(host: Host) -> None:
    create(host, f"{BRIDGE}.name=lan7")
    other = ["--subnet", "10.62.0.0/24", "-o", f"{BRIDGE}.name=lan7", "n2"]
    assert "lan7" in host.docker_error("network", "create", "-d", host.drivers.network, *other)


@pytest.mark.parametrize("name", ["a-name-of-16-char", "with space", "with/slash"])
def test_a_name_that_no_bridge_can_have_is_refused(host: Host, name: str) -> None:
    create_it = ["network", "create", "-d", host.drivers.network, "-o", f"{BRIDGE}.name={name}", "n1"]
    assert "15" in host.docker_error(*create_it)


def test_a_link_that_is_no_bridge_is_refused(host: Host) -> None:
    with changed(host, "ip link add lan7 type veth peer name lan8", "ip link del lan7"):
        create_it = ["network", "create", "-d", host.drivers.network, "-o", f"{BRIDGE}.name=lan7", "n1"]
        assert "lan7" in host.docker_error(*create_it)
        assert "lan7" in host.run("ip", "link")


def test_inhibit_ipv4_leaves_the_gateway_to_others(host: Host) -> None:
    """The gateway's address is free for a container, which is then what the others go out by."""
    create(host, f"{BRIDGE}.inhibit_ipv4=true", f"{BRIDGE}.name=lan7")
    assert addresses(host, "lan7") == []
    host.idle("ann", "--network", "n1")
    host.idle("router", "--network", "n1")
    host.run(*host.network_of("router"), "ip", "address", "add", "10.61.0.1/24", "dev", "eth0")
    host.sh("ann", f"{PING} 10.61.0.1")
    assert "default via 10.61.0.1 dev eth0" in host.sh("ann", "ip route")


def test_inhibit_ipv4_does_not_flush_an_existing_bridge(host: Host) -> None:
    make = "ip link add lan7 type bridge && ip address add 10.61.0.7/24 dev lan7 && ip link set lan7 up"
    with changed(host, make, "ip link del lan7"):
        create(host, f"{BRIDGE}.inhibit_ipv4=true", f"{BRIDGE}.name=lan7")
        host.once(f"{PING} 10.61.0.7", "--network", "n1")
        assert addresses(host, "lan7") == ["10.61.0.7/24"]


def test_another_machine_on_the_bridge_is_the_way_out(host: Host) -> None:
    aux = ["--aux-address", "DefaultGatewayIPv4=10.61.0.9"]
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", SUBNET, *aux, "n1")
    host.idle("ann", "--network", "n1")
    assert "default via 10.61.0.9 dev eth0" in host.sh("ann", "ip route")
    host.sh("ann", f"{PING} 10.61.0.1")


def test_the_interfaces_have_the_wanted_name(host: Host) -> None:
    create(host, "com.docker.network.container_iface_prefix=lan")
    assert host.once("ls /sys/class/net", "--network", "n1").split() == ["lan0", "lo"]


def test_the_mtu_is_that_of_the_way_out(host: Host) -> None:
    with changed(host, "ip link set eth0 mtu 1420", "ip link set eth0 mtu 1500"):
        create(host)
        assert host.once("cat /sys/class/net/eth0/mtu", "--network", "n1") == "1420"
    host.docker("network", "rm", "n1")
    create(host)
    assert host.once("cat /sys/class/net/eth0/mtu", "--network", "n1") == "1500"


def test_the_mtu_can_be_chosen(host: Host) -> None:
    create(host, "com.docker.network.driver.mtu=9000")
    host.idle("ann", "--network", "n1")
    host.once(f"{PING} -s 8972 ann && cat /sys/class/net/eth0/mtu", "--network", "n1")


def test_an_mtu_that_the_kernel_does_not_take_is_refused(host: Host) -> None:
    mtu = ["-o", "com.docker.network.driver.mtu=65536"]
    assert "65535" in host.docker_error("network", "create", "-d", host.drivers.network, *mtu, "n1")


def test_masqueraded_traffic_carries_the_wanted_address(host: Host, outside: WireHost) -> None:
    with address(host, "10.90.0.201/24", "fd90::201/64"), outside.answering("tcp", 9000):
        options = ["-o", "com.docker.network.host_ipv4=10.90.0.201", "-o", "com.docker.network.host_ipv6=fd90::201"]
        subnets = ["--subnet", SUBNET, "--ipv6", "--subnet", "fd61::/64"]
        host.docker("network", "create", "-d", host.drivers.network, *subnets, *options, "n1")
        host.idle("ann", "--network", "n1")
        inside = host.network_of("ann")
        assert host.ask("tcp", outside.address, 9000, entering=inside) == "10.90.0.201"
        assert host.ask("tcp", outside.address6, 9000, entering=inside) == "fd90::201"


def test_without_masquerading_the_world_sees_the_containers_address(host: Host, outside: WireHost) -> None:
    create(host, f"{BRIDGE}.enable_ip_masquerade=false")
    host.web("ann", "--network", "n1", "--ip", "10.61.0.10", "-p", "8080:80")
    do, undo = (f"ip route {verb} {SUBNET} via {host.address}" for verb in ("add", "del"))
    with changed(outside, do, undo), outside.answering("tcp", 9000):
        assert host.ask("tcp", outside.address, 9000, entering=host.network_of("ann")) == "10.61.0.10"
    # Publishing does not depend on it, nor does the way back to the own network.
    assert outside.ask("http", host.address, 8080) == outside.address
    assert host.ask("http", host.address, 8080, "/", entering=host.network_of("ann")) == "lab"
    assert host.ask("http", "127.0.0.1", 8080, "/") == "lab"


def test_options_that_contradict_each_other_are_refused(host: Host) -> None:
    options = ["-o", f"{BRIDGE}.enable_ip_masquerade=false", "-o", "com.docker.network.host_ipv4=10.90.0.201"]
    assert "masquerade" in host.docker_error("network", "create", "-d", host.drivers.network, *options, "n1")


def test_an_unknown_option_of_docker_is_accepted(host: Host) -> None:
    create(host, "com.docker.network.bridge.not_yet_known=1")
    assert "not_yet_known" in host.plugins["pynet"].log_tail()


def test_static_routes_reach_the_containers(host: Host) -> None:
    create(host, "routes=192.0.2.0/24 via 10.61.0.50, 198.51.100.0/24")
    host.idle("ann", "--network", "n1")
    host.idle("router", "--network", "n1", "--ip", "10.61.0.50")
    host.run(*host.network_of("router"), "ip", "address", "add", "192.0.2.1/32", "dev", "lo")
    routes = host.sh("ann", "ip route")
    assert "192.0.2.0/24 via 10.61.0.50 dev eth0" in routes
    assert "198.51.100.0/24 dev eth0" in routes
    host.sh("ann", f"{PING} 192.0.2.1")
