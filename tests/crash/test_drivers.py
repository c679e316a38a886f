"""Death, and an error, at every step of every verb of the real drivers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.crash.plugins import NetworkWorld, NftablesWorld, PluginWorld, Request, VolumeWorld
from tests.crash.walks import cloned, deaths, recoveries

N1, N2, E1, E2 = ("1" * 64, "2" * 64, "a" * 64, "b" * 64)
WEB = {"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080}
ANY = {"Proto": 17, "IP": "", "Port": 53, "HostIP": "127.0.0.1", "HostPort": 0, "HostPortEnd": 0}


def network(name: str, method: str, network_id: str, endpoint_id: str = "", **more: Any) -> Request:
    ids = {"NetworkID": network_id, **({"EndpointID": endpoint_id} if endpoint_id else {})}
    return Request(name, f"NetworkDriver.{method}", {**ids, **more})


def create_network(name: str, network_id: str, subnet: str, **options: Any) -> Request:
    data = [{"AddressSpace": "LocalDefault", "Pool": f"{subnet}.0/24", "Gateway": f"{subnet}.1/24"}]
    data6 = [{"AddressSpace": "LocalDefault", "Pool": "fd77::/64", "Gateway": "fd77::1/64"}]
    return network(name, "CreateNetwork", network_id, Options=options, IPv4Data=data, IPv6Data=data6)


def create_endpoint(name: str, endpoint_id: str, address: str, address6: str = "") -> Request:
    interface = {"Address": address, "AddressIPv6": address6, "MacAddress": ""}
    return network(name, "CreateEndpoint", N1, endpoint_id, Interface=interface, Options={})


def publish(name: str, endpoint_id: str, *ports: dict[str, Any]) -> Request:
    options = {"com.docker.network.portmap": list(ports)}
    return network(name, "ProgramExternalConnectivity", N1, endpoint_id, Options=options)


OVERLAY = {"type": "overlay", "name": "blue", "peers": "10.90.0.11,10.90.0.12,10.90.0.13"}

PYNET = (
    create_network("create network", N1, "10.77.0"),
    create_network("create network again", N1, "10.77.0"),
    create_endpoint("create endpoint", E1, "10.77.0.2/24", "fd77::2/64"),
    network("join", "Join", N1, E1, SandboxKey="/netns/1", Options={}),
    publish("publish", E1, WEB, ANY),
    publish("publish fewer", E1, WEB),
    create_endpoint("create another", E2, "10.77.0.3/24"),
    network("join another", "Join", N1, E2, SandboxKey="/netns/2", Options={}),
    network("revoke", "RevokeExternalConnectivity", N1, E1),
    publish("publish from another", E2, WEB),
    network("leave", "Leave", N1, E1),
    network("join again", "Join", N1, E1, SandboxKey="/netns/3", Options={}),
    network("leave again", "Leave", N1, E1),
    network("delete endpoint", "DeleteEndpoint", N1, E1),
    create_endpoint("create with the address of a dead one", E1, "10.77.0.3/24"),
    network("delete network with endpoints", "DeleteNetwork", N1),
    create_network("create internal", N2, "10.78.0", **{"com.docker.network.internal": True}),
    network("delete network", "DeleteNetwork", N2),
    network("delete network again", "DeleteNetwork", N2),
    create_network("create overlay", N2, "10.79.0", **{"com.docker.network.generic": OVERLAY}),
    network("delete overlay", "DeleteNetwork", N2),
)


def volume(name: str, method: str, **body: Any) -> Request:
    return Request(name, f"VolumeDriver.{method}", {"Name": "v", **body})


PYVOL = (
    volume("create", "Create", Opts={"size": "64M"}),
    volume("create again", "Create", Opts={"size": "64M"}),
    volume("mount", "Mount", ID="c1"),
    volume("mount for cp", "Mount", ID="c1"),
    volume("unmount after cp", "Unmount", ID="c1"),
    volume("mount for another", "Mount", ID="c2"),
    volume("unmount", "Unmount", ID="c1"),
    volume("unmount the unknown", "Unmount", ID="c1"),
    volume("unmount the last", "Unmount", ID="c2"),
    volume("remove", "Remove"),
    volume("remove again", "Remove"),
    Request("create bound", "VolumeDriver.Create", {"Name": "b", "Opts": {"backend": "bind", "source": "/srv/b"}}),
    Request("mount bound", "VolumeDriver.Mount", {"Name": "b", "ID": "c1"}),
    Request("unmount bound", "VolumeDriver.Unmount", {"Name": "b", "ID": "c1"}),
    Request("remove bound", "VolumeDriver.Remove", {"Name": "b"}),
)
SCRIPTS: dict[type[PluginWorld], tuple[Request, ...]] = {NetworkWorld: PYNET, NftablesWorld: PYNET, VolumeWorld: PYVOL}
# Counting is not idempotent: of a Mount that is repeated because its answer was lost, one too many is counted.
COUNTED = ("Mount", "Unmount")


class Case:
    """A verb, a machine on which it is about to be executed, and the records before and after it."""

    def __init__(self, root: Path, kind: type[PluginWorld], script: tuple[Request, ...], index: int) -> None:
        self.verb = script[index]
        self.world = kind(root)
        for earlier in script[:index]:
            assert earlier(self.world) == 200, earlier
            self.world.is_settled()
        self.old = self.world.records()
        with cloned(self.world) as whole:
            whole.reconcile()
            assert self.verb(whole) == 200
            whole.is_settled()
            self.new = whole.records()

    def is_old_or_new(self, world: PluginWorld) -> None:
        """Assert that each record is what it was or what it was to be."""
        now = world.records()
        for key in {*now, *self.old, *self.new}:
            assert now.get(key) in (self.old.get(key), self.new.get(key)), key

    def can_be_repeated(self, world: PluginWorld) -> None:
        """Assert that the verb succeeds, and that then all is as if nothing had happened before."""
        assert self.verb(world) == 200
        world.is_settled()
        if not self.verb.method.endswith(COUNTED):
            assert world.records() == self.new


@pytest.fixture
def case(root: Path, request: pytest.FixtureRequest) -> Iterator[Case]:
    made = Case(root, *request.param)
    yield made
    made.world.close()


def every_verb(*worlds: type[PluginWorld]) -> pytest.MarkDecorator:
    """A test for each verb of these plugins."""
    return pytest.mark.parametrize(
        "case",
        [(world, SCRIPTS[world], index) for world in worlds for index in range(len(SCRIPTS[world]))],
        ids=[f"{world.__name__}: {verb.name}" for world in worlds for verb in SCRIPTS[world]],
        indirect=True,
    )


@every_verb(NetworkWorld, NftablesWorld, VolumeWorld)
def test_death_at_every_step(case: Case) -> None:
    for revived in deaths(case.world, case.verb):
        revived.settles()
        case.is_old_or_new(revived)
        case.can_be_repeated(revived)


@every_verb(NetworkWorld, VolumeWorld)
def test_death_at_every_step_of_the_recovery(case: Case) -> None:
    for once in deaths(case.world, case.verb, every=5):
        for twice in recoveries(once):
            twice.settles()
            case.is_old_or_new(twice)


@every_verb(NetworkWorld, VolumeWorld)
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_an_error_at_every_step(case: Case, for_good: bool) -> None:
    for step in count(1):
        with cloned(case.world) as failing:
            failing.reconcile()
            failing.steps.arm(step, fatal=False, for_good=for_good)
            status = case.verb(failing)
            if failing.steps.taken < step:
                break
            failing.steps.disarm()
            if status == 200:
                # The error came where a write had already been committed, or was overcome.
                failing.is_settled()
            failing.settles()
            case.is_old_or_new(failing)
            case.can_be_repeated(failing)
