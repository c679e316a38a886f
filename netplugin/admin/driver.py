"""The administrator's methods. They read records and wait for no verb of the engine's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import version
from ipaddress import ip_address
from typing import Any

import msgspec

from netplugin.admin import wire
from netplugin.admin.explain import Packet, explain
from netplugin.admin.flows import told
from netplugin.admin.rules import rules
from netplugin.cluster.health import Health
from netplugin.firewall.backends import BACKENDS, Name
from netplugin.kinds import ENDPOINTS, NETWORKS, REMOTE_ENDPOINTS, REMOTE_HOSTS
from netplugin.machine import Flow
from netplugin.options import NetworkOptions
from netplugin.overlay.decide import is_alone
from netplugin.overlay.keeper import WayKeeper
from netplugin.plan import bridge_name, veth_names
from netplugin.records import Endpoint, Network, Publication
from pluginkit.doctor.wire import ReconcileAnswer, just_reconciled
from pluginkit.errors import BadRequest
from pluginkit.reconcile import Outcome
from pluginkit.server import Method, bound
from pluginkit.store import Store
from pluginkit.wire import encode

_PACKAGE = "pynet-pyvol"


class AdminDriver:
    """What an administrator sees of a running pynet, and tells it to do.

    reconcile: puts the kernel right, and calls `reconciled`. collect: deletes what the engines have forgotten.
    ways: knows how it is to peers. flows: looks at what the kernel tracks. etcd: tells how it fares; None:
    this host is in no cluster.
    """

    def __init__(
        self,
        store: Store,
        firewall: Name,
        reconcile: Callable[[], None],
        collect: Callable[[], None],
        ways: WayKeeper,
        flows: Callable[[], Iterable[Flow]],
        etcd: Callable[[], Health] | None,
    ) -> None:
        self._store = store
        self._firewall = firewall
        self._reconcile = reconcile
        self._collect = collect
        self._ways = ways
        self._flows = flows
        self._etcd = etcd
        self._last: ReconcileAnswer | None = None

    def methods(self) -> tuple[Method, ...]:
        """Return every method, as this driver answers it."""
        return bound(METHODS, self)

    def reconciled(self, outcome: Outcome) -> None:
        """This is what the last reconcile did."""
        self._last = just_reconciled(outcome)

    def list_networks(self) -> wire.NetworksAnswer:
        """Return the networks that are on record, with their endpoints."""
        return wire.NetworksAnswer(tuple(self._describe(*each) for each in self._records()))

    def list_rules(self) -> wire.RulesAnswer:
        """Return the rules of all networks, and what they are for."""
        return wire.RulesAnswer(rules(self._records(), BACKENDS[self._firewall]))

    def list_ways(self) -> wire.WaysAnswer:
        """Return how the way to each peer was when it was last tried."""
        infos = (wire.WayInfo(way.peer, way.port, way.state) for way in self._ways.ways)
        return wire.WaysAnswer(self._ways.in_software, tuple(infos))

    def list_flows(self) -> wire.FlowsAnswer:
        """Return the connections of containers that pass through this host's own stack.

        Not those within one bridge: what it forwards is tracked only where br_netfilter is.

        Raises: KernelError: the kernel does not tell.
        """
        return told(self._flows(), (endpoint for _, endpoints in self._records() for endpoint in endpoints))

    def explain(self, request: wire.ExplainRequest) -> wire.ExplainAnswer:
        """Return what becomes of a packet.

        Raises: BadRequest: an address is none, or they are of two families.
        """
        try:
            source = ip_address(request.Source) if request.Source else None
            destination = ip_address(request.Destination)
        except ValueError as exc:
            raise BadRequest(f"cannot explain this packet: {exc}") from exc
        if source is not None and source.version != destination.version:
            raise BadRequest(f"cannot explain a packet from {source} to {destination}: they are of two families")
        packet = Packet(source, destination, request.ToHost, request.Protocol, request.Port or None)
        explained = explain(packet, self._records())
        return wire.ExplainAnswer(explained.verdict, explained.steps)

    def inspect_service(self) -> wire.ServiceAnswer:
        """Return how the service fares."""
        kinds: tuple[Any, ...] = (NETWORKS, ENDPOINTS)
        unfinished = tuple(f"{kind.name} {row.id}" for kind in kinds for row in self._store.rows(kind) if row.pending)
        return wire.ServiceAnswer(version(_PACKAGE), self._firewall, unfinished, self._last, self._etcd_info())

    def reconcile(self) -> ReconcileAnswer | None:
        """Records and kernel agree; return what that took."""
        self._reconcile()
        return self._last

    def collect(self) -> None:
        """Networks that the engines have forgotten are gone, as far as that is certain.

        Raises: Unavailable: an engine could not be asked.
        """
        self._collect()

    def _etcd_info(self) -> wire.EtcdInfo | None:
        health = self._etcd() if self._etcd is not None else None
        if health is None:
            return None
        return wire.EtcdInfo(health.answered, round(health.took_s * 1000), health.failure, health.ahead_s)

    def _records(self) -> list[tuple[Network, tuple[Endpoint, ...]]]:
        endpoints: dict[str, list[Endpoint]] = {}
        for row in self._store.rows(ENDPOINTS):
            if row.current is not None:
                endpoints.setdefault(row.parent, []).append(row.current)
        networks = [row.current for row in self._store.rows(NETWORKS) if row.current is not None]
        return [(network, tuple(endpoints.get(network.id, ()))) for network in networks]

    def _describe(self, network: Network, endpoints: Iterable[Endpoint]) -> wire.NetworkInfo:
        hosts = [row.current.vtep for row in self._store.rows(REMOTE_HOSTS, network.id) if row.current]
        peers = network.overlay.peers if network.overlay else ()
        return wire.NetworkInfo(
            ID=network.id,
            Type="overlay" if network.overlay else "bridge",
            Bridge=bridge_name(network),
            Subnets=tuple(wire.SubnetInfo(str(each.pool), str(each.gateway or "")) for each in network.subnets),
            Internal=network.internal,
            MTU=network.mtu,
            Options=_chosen(network.options),
            Endpoints=tuple(_endpoint(endpoint, network) for endpoint in endpoints),
            Hosts=tuple(sorted({*hosts, *peers})),
            Elsewhere=len(self._store.rows(REMOTE_ENDPOINTS, network.id)),
            Alone=is_alone(network),
        )


METHODS = (
    Method("Networks.List", None, AdminDriver.list_networks),
    Method("Rules.List", None, AdminDriver.list_rules),
    Method("Packets.Explain", wire.ExplainRequest, AdminDriver.explain),
    Method("Ways.List", None, AdminDriver.list_ways),
    Method("Flows.List", None, AdminDriver.list_flows),
    Method("Service.Inspect", None, AdminDriver.inspect_service),
    Method("Service.Reconcile", None, AdminDriver.reconcile),
    Method("Service.Collect", None, AdminDriver.collect),
)


def _endpoint(endpoint: Endpoint, network: Network) -> wire.EndpointInfo:
    return wire.EndpointInfo(
        ID=endpoint.id,
        MAC=endpoint.mac,
        Addresses=tuple(str(address) for address in (endpoint.address4, endpoint.address6) if address),
        Link=veth_names(endpoint.id)[0],
        Sandbox=endpoint.sandbox,
        Ports=tuple(
            port
            for each in (*map(Publication, endpoint.ports), *endpoint.publications)
            for port in _ports(each, network.options)
        ),
    )


def _ports(publication: Publication, options: NetworkOptions) -> Iterable[wire.PortInfo]:
    run, until = publication.port, publication.until
    for host in (run.host4, run.host6):
        if host is not None:
            yield wire.PortInfo(
                *(run.protocol, str(host), run.host_port, run.host_port + run.count - 1, run.container_port),
                publication.sources or options.publish_from,
                datetime.fromtimestamp(until, UTC) if until is not None else None,
            )


def _chosen(options: NetworkOptions) -> dict[str, Any]:
    """Return the options that differ from what a network without any has."""
    usual = NetworkOptions()
    names = [each.name for each in fields(options) if getattr(options, each.name) != getattr(usual, each.name)]
    chosen: dict[str, Any] = msgspec.json.decode(encode({name: getattr(options, name) for name in names}))
    return chosen
