"""Published ports: by pynet on the network that leads out of the container, and shown as they came to be."""

import socket
import subprocess

import pytest

from runtime import sandbox
from runtime.errors import BadParameter, Failed
from runtime.networks.networks import Networks

WEB = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "81/udp": None}


@pytest.fixture
def two_networks(networks):
    for name, subnet in (("blue", "10.9.0.0/24"), ("green", "10.8.0.0/24")):
        networks.create({"Name": name, "Driver": "pynet", "IPAM": {"Config": [{"Subnet": subnet}]}})
    return networks


def answers(bare, port):
    """Whether a connection to the host's port reaches port 80 of the container."""

    def listen():
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("", 80))
        server.listen()
        return server

    with sandbox.inside(bare.netns, listen) as server:
        server.settimeout(10)
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10):
                server.accept()[0].close()
                return True
        except OSError:
            return False


def test_a_port_is_published_shown_and_withdrawn(two_networks, containers):
    one = containers[0]
    two_networks.attach_all(one.target, {"blue": {}}, WEB)
    assert two_networks.port_map(one.id) == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/udp": None}
    assert answers(one, 8080)
    two_networks.detach_all(one.id)
    assert two_networks.port_map(one.id) == {}
    assert "8080" not in subprocess.run(["ss", "-lnt"], capture_output=True, text=True, check=True).stdout


def test_the_port_that_was_chosen_is_shown(two_networks, containers):
    one = containers[0]
    two_networks.attach_all(one.target, {"blue": {}}, {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]})
    [shown] = two_networks.port_map(one.id)["80/tcp"]
    assert shown["HostIp"] == "127.0.0.1"
    assert int(shown["HostPort"]) > 1024
    assert answers(one, int(shown["HostPort"]))


def test_ports_follow_the_way_out(two_networks, containers, state, plugins):
    one = containers[0]
    two_networks.attach_all(one.target, {"green": {}}, WEB)
    two_networks.connect("blue", one.target, {}, WEB)
    assert answers(one, 8080)
    two_networks.disconnect("blue", one.id)
    assert answers(one, 8080)
    two_networks.close()
    after = Networks(state, plugins)
    after.recover([one.id])
    assert after.port_map(one.id)["80/tcp"] == [{"HostIp": "0.0.0.0", "HostPort": "8080"}]
    assert answers(one, 8080)
    after.detach_all(one.id)
    after.close()


def test_a_port_that_is_taken_leaves_the_container_in_no_network(two_networks, containers):
    one, two, _ = containers
    two_networks.attach_all(one.target, {"blue": {}}, WEB)
    with pytest.raises(
        Failed, match=r"driver failed programming external connectivity on endpoint c2 .*already allocated"
    ):
        two_networks.attach_all(two.target, {"blue": {}}, WEB)
    assert two_networks.settings(two.id) == {}
    assert [link["ifname"] for link in two.ip("link")] == ["lo"]
    assert answers(one, 8080)


@pytest.mark.parametrize(
    "ports",
    [{"80/icmp": None}, {"x/tcp": None}, {"80/tcp": [{"HostPort": "99999"}]}, {"80/tcp": [{"HostIp": "nowhere"}]}],
)
def test_nonsense_is_refused_before_anything_is_done(two_networks, containers, ports):
    with pytest.raises(BadParameter, match="cannot publish port"):
        two_networks.check({"blue": {}}, ports)
