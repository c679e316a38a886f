"""`pynet network create`: which `docker network create` it becomes."""

import os

import pytest
from typer.testing import CliRunner

from netplugin.cli import app as cli
from netplugin.overlay.command import Wanted, docker_words
from pluginkit.errors import BadRequest

HOSTS = ("10.0.0.1", "10.0.0.2", "10.0.0.3")


def words(**wanted):
    return " ".join(docker_words(Wanted("blue", **wanted))).removeprefix("docker network create -d pynet ")


def test_a_bridge_is_what_was_asked_for():
    assert words(subnets=("10.61.0.0/24",), internal=True, options=("anti_spoof=true",)) == (
        "--internal --subnet 10.61.0.0/24 -o anti_spoof=true blue"
    )


def test_an_overlay_has_its_addresses_from_the_cluster():
    assert words(overlay=True) == "-o type=overlay -o name=blue --ipam-driver pynet --ipam-opt name=blue blue"
    assert "--ipam-driver pynet:latest" in words(overlay=True, driver="pynet:latest")


def test_hosts_that_only_know_each_other_have_parts_of_their_own():
    said = [words(overlay=True, subnets=("10.61.0.0/24", "fd61::/64"), peers=HOSTS, own=own) for own in HOSTS]
    assert said[0] == (
        "--ipv6 -o type=overlay -o name=blue -o peers=10.0.0.1,10.0.0.2,10.0.0.3 --ip-range 10.61.0.0/26"
        " --ip-range fd61::/66 --subnet 10.61.0.0/24 --subnet fd61::/64 --gateway 10.61.0.1 --gateway fd61::1 blue"
    )
    assert ["--ip-range 10.61.0.64/26" in said[1], "--ip-range 10.61.0.128/26" in said[2]] == [True, True]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"peers": HOSTS, "own": HOSTS[0]}, "add --overlay"),
        ({"overlay": True, "peers": HOSTS, "subnets": ("10.61.0.0/24",)}, "is this host's address; add it"),
        ({"overlay": True, "peers": HOSTS, "own": HOSTS[0]}, "need the same --subnet"),
        ({"overlay": True, "peers": HOSTS, "own": HOSTS[0], "subnets": ("10.61.0.0/29",)}, "too small for 3 hosts"),
        ({"subnets": ("10.61.0.1/24",)}, "is no subnet"),
    ],
)
def test_what_cannot_be_is_refused(wanted, reason):
    with pytest.raises(BadRequest, match=reason):
        words(**wanted)


def test_it_finds_itself_among_the_peers(netns):
    os.system("ip link add eth0 type veth peer name wire && ip address add 10.0.0.2/24 dev eth0 && ip link set eth0 up")
    create = ("network", "create", "blue", "--overlay", "--subnet", "10.61.0.0/24", "--print")
    done = CliRunner().invoke(cli, [*create, "--peers", ",".join(HOSTS)])
    assert "--ip-range 10.61.0.64/26" in done.output
    done = CliRunner().invoke(cli, [*create, "--peers", "10.0.0.1,here"])
    assert done.exit_code == 1
    assert "it takes IP addresses of one family" in done.output
