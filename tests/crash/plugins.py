"""pynet and pyvol over the fake kernel: the real drivers, plans and stores, asked over HTTP as dockerd asks."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, ClassVar, Self

from netplugin import driver as pynet
from netplugin.firewall.backends import BACKENDS
from netplugin.ipam.driver import IpamDriver
from netplugin.kinds import ALL, MIGRATIONS
from netplugin.machine import Way
from netplugin.plan import plans
from netplugin.records import Protocol
from netplugin.resources import (
    Bridge,
    FdbEntry,
    Forwarding,
    HostPorts,
    Neighbour,
    NftPorts,
    NftRuleset,
    OverlayGuard,
    OverlayMember,
    OverlayProbes,
    Redirect,
    Ruleset,
    Shaper,
    SourceGuard,
    Sysctl,
    Veth,
    Vxlan,
)
from pluginkit.errors import Conflict, KernelError
from pluginkit.metrics import Metrics
from pluginkit.reconcile import Outcome, Planned, Resource
from pluginkit.server import Method, create_app
from tests.crash.fake_kernel import FakeKernel, Key
from tests.crash.world import World
from tests.volume import machine
from volplugin import driver as pyvol
from volplugin import volumes
from volplugin.records import Volume
from volplugin.resources import BindMount, Filesystem, Mount

Address = IPv4Address | IPv6Address
SWITCHES = (Forwarding, Sysctl)


@dataclass(frozen=True)
class Request:
    """One request of dockerd."""

    name: str
    method: str
    body: dict[str, Any]

    def __call__(self, world: PluginWorld) -> int:
        """It has been answered; return the status."""
        return world.ask(self)[0]


class PluginWorld(World):
    """A machine with a real driver behind a real app."""

    name: ClassVar[str]
    implements: ClassVar[tuple[str, ...]]

    engine = "1@1"

    def restart_engine(self) -> None:
        """Another engine process calls from now on."""
        pid, _, start_time = self.engine.partition("@")
        self.engine = f"{int(pid) + 1}@{start_time}"

    def clone(self) -> Self:
        other = super().clone()
        other.engine = self.engine
        return other

    def serve(self, methods: Iterable[Method]) -> None:
        """`client` reaches these methods."""
        self.client = create_app(self.name, self.implements, tuple(methods), Metrics(self.name)).test_client()

    def ask(self, request: Request) -> tuple[int, dict[str, Any]]:
        """Return status and object of the answer. A bug fails the test, and death goes through."""
        answer = self.client.post(f"/{request.method}", data=json.dumps(request.body))
        content = json.loads(answer.data)
        assert "internal error" not in content.get("Err", "")
        return answer.status_code, content


def network_needs(resource: Resource) -> Iterable[Key]:
    """What must exist for `resource` to exist: a veth is a port of its bridge, an entry is one of its device."""
    if isinstance(resource, FdbEntry):
        return [("vxlan", resource.link)]
    if isinstance(resource, OverlayProbes):
        return [("bridge", resource.bridge), ("vxlan", resource.link)]
    return [("bridge", resource.bridge)] if isinstance(resource, Veth | Vxlan) else []


class NetworkKernel(FakeKernel):
    """A fake kernel with this much of pynet's in it.

    A host port has one owner, a VNI on a UDP port one device, and a switch is never thrown back.
    """

    def ensure(self, want: Resource) -> None:
        if isinstance(want, HostPorts):
            for have in self.objects.values():
                if isinstance(have, HostPorts) and have.owner != want.owner and overlap(have, want):
                    raise Conflict(f"cannot publish port {want.port}: port is already allocated", holder=have.owner)
        if isinstance(want, Vxlan):
            for have in self.objects.values():
                is_other = isinstance(have, Vxlan) and have.name != want.name
                if is_other and (have.vni, have.port) == (want.vni, want.port):
                    raise Conflict(f"cannot create VXLAN device: VNI {want.vni} is another network's on this host")
        super().ensure(want)

    def remove(self, want: Resource) -> None:
        if not isinstance(want, SWITCHES):
            super().remove(want)


def overlap(one: HostPorts, other: HostPorts) -> bool:
    """Tell whether two processes could not hold both."""
    same = (one.protocol, one.address.version) == (other.protocol, other.address.version)
    ports = range(max(one.port, other.port), min(one.port + one.count, other.port + other.count))
    both = one.address == other.address or one.address.is_unspecified or other.address.is_unspecified
    return same and both and bool(ports)


class NetworkWorld(PluginWorld):
    """A machine with pynet and iptables. It is its own probe, and has no flows, which may fail to be forgotten."""

    name = "pynet"
    implements = ("NetworkDriver", "IpamDriver")
    backend = BACKENDS["iptables"]
    planned = plans(backend).all
    kinds = ALL
    migrations = MIGRATIONS

    def make_kernel(self) -> FakeKernel:
        return NetworkKernel(self.steps, network_needs)

    def assemble(self) -> None:
        overlay = (OverlayGuard, OverlayMember, Vxlan, OverlayProbes, FdbEntry, Neighbour)
        types = (
            *(Bridge, Veth, *overlay, *SWITCHES, Shaper, Redirect, SourceGuard),
            *(HostPorts, Ruleset, NftRuleset, NftPorts),
        )
        kernels = dict(self.kernel.kernels(types))
        for switch in SWITCHES:
            kernels[switch] = machine.Unlisted(kernels[switch])
        self.driver = pynet.NetworkDriver(self.store, kernels, self.backend, probe=self, flows=self, announcer=self)
        self.serve((*self.driver.methods(), *IpamDriver(self.store, host=self).methods()))

    def reconcile(self) -> Outcome:
        return self.driver.reconcile()

    def outlives_the_process(self, resource: Resource) -> bool:
        return not isinstance(resource, HostPorts)

    def stays_when_removed(self, resource: Resource) -> bool:
        return isinstance(resource, SWITCHES)

    def is_free(self, protocol: Protocol, addresses: Iterable[Address], port: int) -> bool:
        wanted = [HostPorts(protocol, address, port, "") for address in addresses]
        held = [have for have in self.kernel.objects.values() if isinstance(have, HostPorts)]
        return not any(overlap(have, want) for have in held for want in wanted)

    def announce_soon(self, *_: object) -> None:
        """Nobody listens."""

    def ephemeral_range(self) -> range:
        return range(32768, 32800)

    def link_index(self, name: str) -> int:
        return int(("veth", name) in self.kernel.objects or ("bridge", name) in self.kernel.objects)

    def addresses_of(self, name: str) -> tuple[str, ...]:
        return ()

    def default_mtu(self) -> int | None:
        return 1500

    def way_to(self, address: Address) -> Way | None:
        own = IPv4Address("10.90.0.11")
        return Way(own, 1500, address == own)

    def tunnel_lack(self) -> str:
        return ""

    def forget(self, protocol: Protocol, host: Address, first: int, count: int) -> None:
        self.steps.take(KernelError("forget flows to", f"{first}/{protocol}", errno.EIO))

    def networks(self) -> frozenset[IPv4Network | IPv6Network]:
        return frozenset({IPv4Network("10.200.0.0/24")})

    def sandbox_is_gone(self, key: str) -> bool:
        return False


class NftablesWorld(NetworkWorld):
    """The same with nftables."""

    backend = BACKENDS["nftables"]
    planned = plans(backend).all


class VolumeWorld(PluginWorld):
    """A machine with pyvol. It is its own usage: no container outlives its engine."""

    name = "pyvol"
    implements = ("VolumeDriver",)
    planned = (
        Planned(volumes.POOL, machine.LAYOUT.plan_pool),
        Planned(volumes.VOLUME, machine.LAYOUT.plan_volume),
        Planned(volumes.SNAPSHOT, machine.LAYOUT.plan_snapshot, parent=volumes.VOLUME),
        Planned(volumes.ATTACHMENT, machine.LAYOUT.plan_attachment, parent=volumes.VOLUME),
        Planned(volumes.TRASH, machine.LAYOUT.plan_trashed),
    )

    def make_kernel(self) -> FakeKernel:
        return machine.VolumeKernel(self.steps, machine.needs)

    def assemble(self) -> None:
        kernels = dict(self.kernel.kernels(machine.RESOURCES))
        for lasting in machine.LASTING:
            kernels[lasting] = machine.Unlisted(kernels[lasting])
        known = volumes.Volumes(self.store, machine.LAYOUT, kernels, self, machine.POLICY, self.engine_runs)
        self.driver = pyvol.VolumeDriver(known, engine=lambda: self.engine)
        self.serve(self.driver.methods())

    def reconcile(self) -> Outcome:
        return self.driver.reconcile()

    def records(self) -> dict[tuple[str, str], Any]:
        """Return the committed records; when a volume was made is not compared."""
        some_time = datetime(2026, 1, 1, tzinfo=UTC)
        return {
            key: replace(record, created_at=some_time) if isinstance(record, Volume) and record.created_at else record
            for key, record in super().records().items()
        }

    def holders(self, mount: Mount | BindMount) -> list[str]:
        return []

    def engine_runs(self, engine: str) -> bool:
        return engine == self.engine

    def space(self, mount: Mount | BindMount) -> dict[str, int | bool]:
        return {}

    def is_there(self, disk: Path) -> bool:
        return True

    def is_lost(self, disk: Path) -> bool:
        return False

    def is_taken(self, mount: Mount | BindMount) -> bool:
        return isinstance(mount, Mount) and ("filesystem", str(mount.path)) in self.kernel.objects

    def available(self, disk: Path) -> int:
        return 1 << 50

    def allocated(self, mount: Mount | BindMount) -> int:
        return 0

    def check_key(self, mount: Mount | BindMount) -> None:
        """Keys are for the real kernel."""

    def has_reflinks(self, disk: Path) -> bool:
        return True

    def volumes(self, disk: Path) -> list[str]:
        return [
            have.path.parent.name
            for have in self.kernel.objects.values()
            if isinstance(have, Filesystem) and have.path.parents[1] == disk
        ]
