"""Links in real network namespaces."""

import subprocess

import pytest

from runtime import sandbox
from runtime.errors import Failed
from runtime.sandbox import Interface, Route
from tests.runtime.bare import Bare, ip


@pytest.fixture
def bare(netns, tmp_path):
    bare = Bare(tmp_path, "c1")
    yield bare
    bare.close()


def pair(name="pnc1"):
    subprocess.run(["ip", "link", "add", f"{name}h", "type", "veth", "peer", "name", name], check=True)
    subprocess.run(["ip", "link", "set", f"{name}h", "up"], check=True)


WANTED = Interface(
    "pnc1", "eth", "02:42:0a:09:00:02", ("10.9.0.2/24", "fd09::2/64"), (Route("10.8.0.0/16", "10.9.0.7"),)
)


def test_a_link_is_moved_in_and_out(bare):
    pair()
    sandbox.loopback_up(bare.netns)
    assert sandbox.adopt(bare.netns, WANTED) == "eth0"
    [link] = bare.ip("addr", "show", "eth0")
    assert (link["address"], "UP" in link["flags"]) == (WANTED.mac, True)
    assert {(each["local"], each["prefixlen"]) for each in link["addr_info"] if each["scope"] == "global"} == {
        ("10.9.0.2", 24),
        ("fd09::2", 64),
    }
    sandbox.set_default_route(bare.netns, "10.9.0.1", False, "eth0")
    sandbox.set_default_route(bare.netns, "fd09::1", True, "eth0")
    sandbox.set_default_route(bare.netns, "fd09::1", True, "eth0")
    routes = {route["dst"]: route.get("gateway") for route in bare.ip("route")}
    assert routes == {"default": "10.9.0.1", "10.8.0.0/16": "10.9.0.7", "10.9.0.0/24": None}
    assert [route["gateway"] for route in bare.ip("-6", "route") if route["dst"] == "default"] == ["fd09::1"]
    sandbox.set_default_route(bare.netns, "", False, "")
    assert "default" not in {route["dst"] for route in bare.ip("route")}
    sandbox.release(bare.netns, "eth0", "pnc1")
    sandbox.release(bare.netns, "eth0", "pnc1")
    assert [link["ifname"] for link in bare.ip("link")] == ["lo"]
    assert "UP" not in ip("link", "show", "pnc1")[0]["flags"]


def test_names_are_the_lowest_free_ones(bare):
    for number in range(3):
        pair(f"pnc{number}")
        assert sandbox.adopt(bare.netns, Interface(f"pnc{number}", "eth")) == f"eth{number}"
    sandbox.release(bare.netns, "eth1", "pnc1")
    assert sandbox.adopt(bare.netns, Interface("pnc1", "eth")) == "eth1"


def test_a_link_that_cannot_be_set_up_is_on_the_host_again(bare):
    pair()
    with pytest.raises(Failed, match="cannot set up pnc1 in its namespace: Network is unreachable"):
        sandbox.adopt(bare.netns, Interface("pnc1", "eth", routes=(Route("10.8.0.0/16", "10.9.0.7"),)))
    assert ip("link", "show", "pnc1")[0]["ifname"] == "pnc1"
    assert len(bare.ip("link")) == 1


def test_what_is_not_there_is_said(bare, tmp_path):
    with pytest.raises(Failed, match=r"cannot move pnc1 into .*: No such device"):
        sandbox.adopt(bare.netns, WANTED)
    sandbox.release(tmp_path / "nowhere", "eth0", "pnc1")


def test_neighbours_learn_where_an_address_is(bare, tmp_path):
    pair()
    subprocess.run(["ip", "addr", "add", "10.9.0.1/24", "dev", "pnc1h"], check=True)
    subprocess.run(["ip", "addr", "add", "fd09::1/64", "dev", "pnc1h", "nodad"], check=True)
    for address in ("10.9.0.2", "fd09::2"):
        subprocess.run(["ip", "neigh", "add", address, "lladdr", "02:00:00:00:00:99", "dev", "pnc1h", "nud", "stale"],
                       check=True)  # fmt: skip
    sandbox.adopt(bare.netns, WANTED)
    sandbox.announce(bare.netns, "eth0", WANTED.mac, WANTED.addresses, times=2, every_s=0.1)
    bare.until(lambda: [n["lladdr"] for n in ip("neigh", "show", "dev", "pnc1h") if n["dst"][-2:] in (".2", ":2")
                        and n["dst"][0] != "fe80"] == [WANTED.mac] * 2)  # fmt: skip


def test_the_host_knows_its_subnets(bare):
    pair()
    subprocess.run(["ip", "addr", "add", "10.9.0.1/24", "dev", "pnc1h"], check=True)
    assert "10.9.0.0/24" in map(str, sandbox.host_subnets())
