"""The daemon dies after each record that it writes, and starts again: no network is half there, nothing leaks."""

from contextlib import closing

import pytest

from runtime.filters import Filters
from runtime.networks.networks import Networks
from runtime.state import State
from tests.runtime.bare import ip

BLUE = {"Name": "blue", "Driver": "pynet", "EnableIPv6": True,
        "IPAM": {"Config": [{"Subnet": "10.9.0.0/24"}, {"Subnet": "fd09::/64"}]}}  # fmt: skip
GREEN = {"Name": "green", "Driver": "pynet"}
WEB = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}


class Killed(BaseException):
    """What no part of the daemon catches, as nothing catches SIGKILL."""


class Mortal(State):
    """Dies after `left` more records."""

    left = 10**6

    def put(self, kind, key, record):
        super().put(kind, key, record)
        self._age()

    def delete(self, kind, key):
        super().delete(kind, key)
        self._age()

    def _age(self):
        self.left -= 1
        if self.left < 0:
            raise Killed


@pytest.fixture
def mortal(tmp_path):
    with closing(Mortal(tmp_path / "mortal.db")) as state:
        yield state


def killed_after(state, plugins, records, action):
    """Whether the daemon died in `action`, after so many records; the next one will not."""
    networks = Networks(state, plugins)
    state.left = records
    try:
        action(networks)
    except Killed:
        return True
    finally:
        state.left = 10**6
        networks.close()
    return False


def test_a_network_that_was_being_made_or_removed(mortal, plugins, pynet):
    def make_and_remove(networks):
        networks.create(BLUE)
        networks.remove("blue")

    deaths = 0
    while killed_after(mortal, plugins, deaths, make_and_remove):
        deaths += 1
        after = Networks(mortal, plugins)
        after.recover([])
        if "blue" in [each["Name"] for each in after.list(Filters())]:
            after.remove("blue")
        assert (mortal.all("network"), mortal.all("ipam-pool")) == ({}, {})
        assert [link["ifname"] for link in ip("link")] == ["lo"]
    assert deaths > 10


@pytest.mark.parametrize("lives", [False, True])
def test_a_container_that_was_being_attached_or_detached(mortal, plugins, containers, lives):
    one = containers[0]
    networks = Networks(mortal, plugins)
    networks.create(BLUE)
    networks.create(GREEN)

    def attach_and_detach(networks):
        networks.attach_all(one.target, {"blue": {}, "green": {}}, WEB)
        networks.detach_all(one.id)

    before = (
        sorted(link["ifname"] for link in ip("link")),
        mortal.all("ipam-pool")["LocalDefault/10.9.0.0/24"]["used"],
    )
    deaths = 0
    while killed_after(mortal, plugins, deaths, attach_and_detach):
        deaths += 1
        after = Networks(mortal, plugins)
        after.recover([one.id] if lives else [])
        for network, settings in after.settings(one.id).items():
            assert lives
            one.run("ping", "-c1", "-W5", settings["Gateway"])
            assert after.inspect(network)["Containers"][one.id]["EndpointID"] == settings["EndpointID"]
        after.detach_all(one.id)
        after.close()
        assert (mortal.all("endpoint"), mortal.all("sandbox")) == ({}, {})
        now = (
            sorted(link["ifname"] for link in ip("link")),
            mortal.all("ipam-pool")["LocalDefault/10.9.0.0/24"]["used"],
        )
        assert now == before
        assert [link["ifname"] for link in one.ip("link")] == ["lo"]
    assert deaths > 20
