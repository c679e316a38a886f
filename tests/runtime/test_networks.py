"""Networks of a real pynet, with bare network namespaces as containers."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime.errors import BadParameter, Conflict, Failed, NotFound, Unsupported
from runtime.filters import Filters
from runtime.networks.networks import Networks
from tests.runtime.bare import Bare, ip

BLUE = {"Name": "blue", "Driver": "pynet"}
FIXED = BLUE | {"IPAM": {"Config": [{"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.1"}]}}
DUAL = BLUE | {
    "EnableIPv6": True,
    "IPAM": {"Config": [{"Subnet": "10.9.0.0/24"}, {"Subnet": "fd09::/64"}]},
}


def bridges():
    return [link["ifname"] for link in ip("link", "show", "type", "bridge")]


def test_the_life_of_a_network(networks, containers):
    one, two, _ = containers
    key = networks.create(DUAL | {"Labels": {"a": "b"}})
    assert networks.inspect("blue")["Id"] == networks.inspect(key[:5])["Id"] == key
    settings = networks.attach_all(one.target, {"blue": {}}, {})["blue"]
    assert networks.attach_all(two.target, {"blue": {}}, {})["blue"]["IPAddress"] != settings["IPAddress"]
    assert (settings["Gateway"], settings["IPPrefixLen"]) == ("10.9.0.1", 24)
    [link] = [link for link in one.ip("addr") if link["ifname"] == "eth0"]
    assert link["address"] == settings["MacAddress"]
    assert {each["local"] for each in link["addr_info"] if each["scope"] == "global"} == {
        settings["IPAddress"],
        settings["GlobalIPv6Address"],
    }
    for address in (settings["IPAddress"], settings["GlobalIPv6Address"], "10.9.0.1"):
        two.run("ping", "-c1", "-W5", address)
    seen = networks.inspect("blue")
    assert {each["Name"] for each in seen["Containers"].values()} == {"c1", "c2"}
    assert [entry["Subnet"] for entry in seen["IPAM"]["Config"]] == ["10.9.0.0/24", "fd09::/64"]
    with pytest.raises(Conflict, match=r"has active endpoints \(c1, c2\)"):
        networks.remove("blue")
    networks.detach_all(one.id)
    networks.detach_all(one.id)
    two.close()
    networks.detach_all(two.id)
    assert [link["ifname"] for link in one.ip("link")] == ["lo"]
    networks.remove("blue")
    assert bridges() == []
    assert {link["ifname"] for link in ip("link")} == {"lo"}
    with pytest.raises(NotFound, match="network blue not found"):
        networks.inspect("blue")


def test_wishes_for_addresses(networks, containers):
    one, two, three = containers
    networks.create(FIXED)
    wish = {"IPAMConfig": {"IPv4Address": "10.9.0.77"}, "MacAddress": "02:42:0A:09:00:4d"}
    settings = networks.attach_all(one.target, {"blue": wish}, {})["blue"]
    assert (settings["IPAddress"], settings["MacAddress"]) == ("10.9.0.77", "02:42:0a:09:00:4d")
    with pytest.raises(Conflict, match=r"cannot connect container c2 to network blue: .*Address already in use"):
        networks.attach_all(two.target, {"blue": wish}, {})
    with pytest.raises(BadParameter, match="user configured subnets"):
        networks.attach_all(two.target, {"blue": {"IPAMConfig": {"IPv4Address": "10.8.0.2"}}}, {})
    with pytest.raises(BadParameter, match="no MAC address"):
        networks.attach_all(two.target, {"blue": {"MacAddress": "nonsense"}}, {})
    with pytest.raises(Unsupported, match="pyrun has no Links"):
        networks.attach_all(two.target, {"blue": {"Links": ["c1:c1"]}}, {})
    assert [link["ifname"] for link in two.ip("link")] == ["lo"]
    assert len(networks.inspect("blue")["Containers"]) == 1
    networks.create({"Name": "auto", "Driver": "pynet"})
    assert networks.inspect("auto")["IPAM"]["Config"][0]["Subnet"] == "172.30.0.0/24"
    with pytest.raises(BadParameter, match="user configured subnets"):
        networks.attach_all(three.target, {"auto": {"IPAMConfig": {"IPv4Address": "172.30.0.9"}}}, {})


def test_link_local_addresses_are_added(networks, containers):
    one = containers[0]
    networks.create(FIXED)
    with pytest.raises(BadParameter, match="choose another link-local address"):
        networks.check({"blue": {"IPAMConfig": {"LinkLocalIPs": ["nonsense"]}}}, {})
    networks.attach_all(one.target, {"blue": {"IPAMConfig": {"LinkLocalIPs": ["169.254.7.8"]}}}, {})
    [link] = one.ip("addr", "show", "eth0")
    assert ("169.254.7.8", 16) in {(each["local"], each["prefixlen"]) for each in link["addr_info"]}


def test_an_address_that_was_given_back_is_given_first(networks, containers):
    one, two, three = containers
    networks.create(FIXED)
    assert networks.attach_all(one.target, {"blue": {}}, {})["blue"]["IPAddress"] == "10.9.0.2"
    assert networks.attach_all(two.target, {"blue": {}}, {})["blue"]["IPAddress"] == "10.9.0.3"
    networks.detach_all(one.id)
    assert networks.attach_all(three.target, {"blue": {}}, {})["blue"]["IPAddress"] == "10.9.0.2"


def test_pynet_as_its_own_ipam(networks, containers):
    one = containers[0]
    networks.create(BLUE | {"IPAM": {"Driver": "pynet"}})
    subnet = networks.inspect("blue")["IPAM"]["Config"][0]["Subnet"]
    assert subnet.endswith(("/24", "/16"))
    settings = networks.attach_all(one.target, {"blue": {}}, {})["blue"]
    one.run("ping", "-c1", "-W5", settings["Gateway"])
    networks.detach_all(one.id)
    networks.remove("blue")


def test_what_fails_leaves_nothing(networks, containers, state):
    for body, kind, words in (
        *((BLUE | {"Name": name}, BadParameter, "1 to 255 characters") for name in ("", " a", "a/b", "a\nb", "..")),
        (BLUE | {"Options": {"nonsense": "1"}}, Failed, r"cannot create network blue: NetworkDriver\.GwAllocCheck: "),
        (BLUE | {"IPAM": {"Config": [{"Subnet": "10.9.0.1/24"}]}}, BadParameter, "host bits"),
        (BLUE | {"IPAM": {"Options": {"a": "b"}}}, BadParameter, "default IPAM driver has none"),
        (BLUE | {"Options": {"com.docker.network.advertise_addr_ms": "x"}}, BadParameter, "no small number"),
        (BLUE | {"ConfigOnly": True}, Unsupported, "ConfigOnly"),
        (BLUE | {"Name": "none"}, Conflict, "already exists"),
    ):
        with pytest.raises(kind, match=words):
            networks.create(body)
    assert [each["Name"] for each in networks.list(Filters())] == ["host", "none"]
    assert (state.all("network"), state.all("ipam-pool"), bridges()) == ({}, {}, [])
    networks.create(FIXED)
    with pytest.raises(Conflict, match="network with name blue already exists"):
        networks.create(FIXED)
    with pytest.raises(Conflict, match="Pool overlaps"):
        networks.create(FIXED | {"Name": "green"})
    key = networks.inspect("blue")["Id"]
    with pytest.raises(BadParameter, match="twice"):
        networks.attach_all(containers[0].target, {"blue": {}, key: {}}, {})
    containers[1].close()
    with pytest.raises(Failed, match="cannot enter network namespace"):
        networks.attach_all(containers[1].target, {"blue": {}}, {})
    assert (state.all("endpoint"), state.all("sandbox")) == ({}, {})


def test_the_default_network_is_made_when_wanted(networks, containers):
    one = containers[0]
    assert set(networks.attach_all(one.target, {"default": {}}, {})) == {"bridge"}
    networks.detach_all(one.id)
    assert networks.prune(Filters()) == {"NetworksDeleted": []}
    networks.create(BLUE | {"Labels": {"keep": "1"}})
    networks.create(BLUE | {"Name": "green"})
    assert networks.prune(Filters({"label!": ("keep",)})) == {"NetworksDeleted": ["green"]}
    with pytest.raises(BadParameter, match="pre-defined"):
        networks.remove("none")
    with pytest.raises(BadParameter, match="cannot connect to network host"):
        networks.attach_all(one.target, {"host": {}}, {})

    def names(**wanted):
        return [each["Name"] for each in networks.list(Filters({key: (value,) for key, value in wanted.items()}))]

    assert names(label="keep") == names(name="lu") == ["blue"]
    assert names(type="custom") == names(dangling="true") == ["blue", "bridge"]
    assert names(driver="pynet") == ["blue", "bridge"]
    with pytest.raises(BadParameter, match="invalid filter"):
        names(colour="red")


def test_a_network_more_and_the_way_out(networks, containers):
    one, two, _ = containers
    networks.create(FIXED)
    networks.create({"Name": "green", "Driver": "pynet", "IPAM": {"Config": [{"Subnet": "10.8.0.0/24"}]}})
    networks.create({"Name": "closed", "Driver": "pynet", "Internal": True})

    def way_out():
        return [route["gateway"] for route in one.ip("route") if route["dst"] == "default"]

    networks.attach_all(one.target, {"closed": {}}, {})
    assert way_out() == []
    networks.connect("green", one.target, {}, {})
    assert way_out() == ["10.8.0.1"]
    networks.connect("blue", one.target, {"Aliases": ["db"]}, {})  # its name comes first
    assert way_out() == ["10.9.0.1"]
    assert [link["ifname"] for link in one.ip("link")] == ["lo", "eth0", "eth1", "eth2"]
    with pytest.raises(Conflict, match="already exists in network blue"):
        networks.connect("blue", one.target, {}, {})
    networks.disconnect("blue", one.id)
    assert way_out() == ["10.8.0.1"]
    with pytest.raises(NotFound, match="is not connected to network blue"):
        networks.disconnect("blue", one.id)
    networks.disconnect("blue", one.id, force=True)
    networks.connect("blue", one.target, {"GwPriority": -1}, {})
    assert way_out() == ["10.8.0.1"]
    networks.connect("blue", two.target, {}, {})
    assert set(networks.settings(two.id)) == {"blue"}


def test_a_daemon_that_died_finds_everything_again(networks, containers, state, plugins):
    one, two, _ = containers
    networks.create(FIXED)
    networks.create({"Name": "auto", "Driver": "pynet"})
    networks.attach_all(one.target, {"blue": {}, "auto": {}}, {})
    networks.attach_all(two.target, {"blue": {}}, {})
    before = networks.settings(one.id)
    two.close()
    state.put("network", "f" * 64, {**state.all("network")[networks.inspect("auto")["Id"]], "id": "f" * 64,
                                    "name": "half", "ready": False, "pools4": []})  # fmt: skip
    state.put("ipam-pool", "LocalDefault/10.7.0.0/24", {"pool": "10.7.0.0/24", "range": "10.7.0.0/24", "used": []})
    after = Networks(state, plugins)
    after.recover([one.id])
    assert after.settings(one.id) == before
    assert after.settings(two.id) == {}
    assert {each["Name"] for each in after.list(Filters())} == {"auto", "blue", "host", "none"}
    assert "LocalDefault/10.7.0.0/24" not in state.all("ipam-pool")
    one.run("ping", "-c1", "-W5", "10.9.0.1")
    after.detach_all(one.id)
    after.remove("blue")
    after.remove("auto")
    assert (bridges(), state.all("ipam-pool"), state.all("endpoint")) == ([], {}, {})


def test_many_at_once_get_what_is_theirs(networks, tmp_path, pynet):
    networks.create(FIXED)
    many = [Bare(tmp_path, f"m{number}") for number in range(8)]
    try:
        with ThreadPoolExecutor(len(many)) as threads:
            attached = list(threads.map(lambda bare: networks.attach_all(bare.target, {"blue": {}}, {}), many))
        assert len({settings["blue"]["IPAddress"] for settings in attached}) == len(many)
        many[0].run("ping", "-c1", "-W5", attached[-1]["blue"]["IPAddress"])
        with ThreadPoolExecutor(len(many)) as threads:
            list(threads.map(lambda bare: networks.detach_all(bare.id), many))
        networks.remove("blue")
        assert {link["ifname"] for link in ip("link")} == {"lo"}
    finally:
        for bare in many:
            bare.close()


def test_of_many_that_create_or_remove_the_same_network_one_does(networks, pynet):
    def outcome(action):
        try:
            action()
        except (Conflict, NotFound) as exc:
            return type(exc)
        return None

    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(lambda _: outcome(lambda: networks.create(FIXED)), range(6)))
        gone = list(threads.map(lambda _: outcome(lambda: networks.remove("blue")), range(6)))
    assert sorted(map(str, made)) == sorted(map(str, [None] + [Conflict] * 5))
    assert sorted(map(str, gone)) == sorted(map(str, [None] + [NotFound] * 5))
    assert bridges() == []
