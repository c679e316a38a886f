"""The smallest plugin with all that the core knows: networks, and endpoints that hang on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pluginkit.reconcile import Outcome, Planned, Reconciler, Resource
from pluginkit.store import Kind, Row
from tests.crash.fake_kernel import FakeKernel, Key
from tests.crash.world import World


@dataclass(frozen=True)
class Network:
    mtu: int = 1500
    masquerade: bool = True


@dataclass(frozen=True)
class Endpoint:
    address: str
    sandbox: str | None = None
    ports: tuple[int, ...] = ()


@dataclass(frozen=True)
class Bridge:
    name: str
    mtu: int

    @property
    def key(self) -> Key:
        return ("bridge", self.name)


@dataclass(frozen=True)
class Rules:
    network: str

    @property
    def key(self) -> Key:
        return ("rules", self.network)


@dataclass(frozen=True)
class Veth:
    bridge: str
    address: str
    sandbox: str

    @property
    def key(self) -> Key:
        return ("veth", self.address)


@dataclass(frozen=True)
class Port:
    number: int
    address: str

    @property
    def key(self) -> Key:
        return ("port", str(self.number))


def plan_network(network: Network, _: None) -> tuple[Resource, ...]:
    rules = (Rules("n"),) if network.masquerade else ()
    return (Bridge("n", network.mtu), *rules)


def plan_endpoint(endpoint: Endpoint, network: Network) -> tuple[Resource, ...]:
    assert isinstance(network, Network)
    if endpoint.sandbox is None:
        return ()
    veth = Veth("n", endpoint.address, endpoint.sandbox)
    return (veth, *(Port(number, endpoint.address) for number in endpoint.ports))


def needs(resource: Resource) -> Iterable[Key]:
    """What must exist for `resource` to exist: a veth hangs on its bridge, a published port on its veth."""
    if isinstance(resource, Veth):
        return [("bridge", resource.bridge)]
    if isinstance(resource, Port):
        return [("veth", resource.address)]
    return []


NETWORK = Planned(Kind("network", Network, durable=True), plan_network)
ENDPOINT = Planned(Kind("endpoint", Endpoint, durable=False), plan_endpoint, NETWORK.kind)
KINDS = (NETWORK, ENDPOINT)
RESOURCES = (Bridge, Rules, Veth, Port)


@dataclass(frozen=True)
class Move:
    """One verb of the engine: the record `record_id` becomes `new`."""

    name: str
    planned: Planned[Any]
    record_id: str
    new: Network | Endpoint | None

    def __call__(self, world: SmallWorld) -> None:
        """The verb has been executed on `world`."""
        world.do(self)


class SmallWorld(World):
    """A machine with the smallest plugin."""

    planned = KINDS

    def make_kernel(self) -> FakeKernel:
        return FakeKernel(self.steps, needs)

    def assemble(self) -> None:
        self._reconciler = Reconciler(self.store, KINDS, self.kernel.kernels(RESOURCES))

    def reconcile(self) -> Outcome:
        return self._reconciler.reconcile()

    def do(self, move: Move) -> None:
        """The verb has been executed, as a driver executes it."""
        row = self.row(move)
        is_known = row is not None and not row.pending
        parent = "n" if move.planned is ENDPOINT and not is_known else ""
        self._reconciler.transition(move.planned, move.record_id, move.new, parent)

    def row(self, move: Move) -> Row[Any] | None:
        """Return the row that `move` is about."""
        return self.store.get(move.planned.kind, move.record_id)

    def record(self, move: Move) -> Network | Endpoint | None:
        """Return the committed record that `move` is about."""
        row = self.row(move)
        return row.current if row else None
