"""The verbs of a driver of global scope: what a swarm's managers give out, and which nodes its engine knows.

Source: docs/protocol.md; moby libnetwork/cnmallocator and libnetwork/agent.go. A manager hands the options that it is
answered to CreateNetwork on every node, and brings them along when it, or its successor, asks again after a restart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from netplugin import parse, wire
from netplugin.kinds import ALLOCATIONS, NETWORKS, NODES, REMOTE_HOSTS
from netplugin.machine import Address, Way
from netplugin.options import NetworkOptions, parse_options
from netplugin.overlay.decide import DERIVED_VNIS, derived_vni, mtu_inside
from netplugin.plan import Plans
from netplugin.records import Allocation, Endpoint, Network, Node, Overlay, RemoteHost
from pluginkit.errors import BadRequest, Conflict, Exhausted, Unavailable
from pluginkit.locks import Locks
from pluginkit.log import failure
from pluginkit.reconcile import Reconciler
from pluginkit.store import Kind, Store

log = logging.getLogger(__name__)

_ALLOCATIONS, _NODES = "allocations", "nodes"
_NODE_DISCOVERY = 1
_TRIES = 1000
_NO_KEYS = (
    "nodes of a swarm have no place where they could tell their keys; make a WireGuard link between them, let the swarm"
    " advertise its addresses, and leave -o encrypted out"
)


class SwarmDriver:
    """AllocateNetwork, FreeNetwork, DiscoverNew and DiscoverDelete of one host.

    Where there is no cluster of our own it takes that part: the swarm's nodes are the hosts of an overlay.
    mtu_of: the largest packet that leaves by an address of this host.
    """

    def __init__(
        self,
        store: Store,
        reconciler: Reconciler,
        locks: Locks,
        plans: Plans,
        way_to: Callable[[Address], Way | None],
        mtu_of: Callable[[Address], int | None],
    ) -> None:
        self._store, self._reconciler, self._locks, self._plans = store, reconciler, locks, plans
        self._way_to, self._mtu_of = way_to, mtu_of

    def allocate_network(self, request: wire.CreateNetworkRequest, *, numbered: bool) -> wire.AllocateNetworkAnswer:
        """Return the options that every node is to get: those given and, of an overlay, its name and its VNI.

        numbered: without, somebody else gives VNIs.

        Raises: BadRequest: they cannot be used. Conflict, Exhausted: there is no such VNI to be had.
        """
        given = {key: value for key, value in (request.Options or {}).items() if isinstance(value, str)}
        network_id = parse.parse_id(request.NetworkID, "network")
        # A network of a swarm has one name everywhere: the ID that each of its engines knows.
        named = {"name": network_id, **given} if given.get("type") == "overlay" else given
        # Whether the network is internal is not told to a manager.
        options = parse_options(named)
        parse.check_overlay(options)
        if options.encrypted:
            raise BadRequest(f"cannot create network: {_NO_KEYS}")
        if options.dns:
            raise BadRequest("cannot create network: the swarm's own DNS knows all tasks; leave -o dns=true out")
        if options.type != "overlay" or not numbered:
            return wire.AllocateNetworkAnswer(named)
        with self._locks.hold(_ALLOCATIONS):
            row = self._store.get(ALLOCATIONS, network_id)
            allocation = row.current if row is not None else None
            if allocation is None or options.vni not in (None, allocation.vni):
                allocation = self._allocation(network_id, options)
                self._save(ALLOCATIONS, network_id, allocation)
        return wire.AllocateNetworkAnswer({**named, "vni": str(allocation.vni)})

    def free_network(self, request: wire.NetworkRequest) -> None:
        """The network's VNI may be another one's."""
        with self._locks.hold(_ALLOCATIONS):
            self._save(ALLOCATIONS, request.NetworkID, None)

    def discover_new(self, request: wire.DiscoveryRequest) -> None:
        """The node is a host of the swarm's overlays."""
        address, own = _parse_node(request)
        if not address:
            return
        with self._locks.hold(_NODES):
            if own:
                for row in self._store.rows(NODES):
                    if row.current is not None and row.current.own and row.id != address:
                        self._save(NODES, row.id, None)
            self._save(NODES, address, Node(own))
        self.look_again()

    def discover_delete(self, request: wire.DiscoveryRequest) -> None:
        """The node is none of the swarm's any more; it neither gets anything nor may it send."""
        address, own = _parse_node(request)
        if address and not own:
            with self._locks.hold(_NODES):
                self._save(NODES, address, None)
            self.look_again()

    def join(self, network: Network) -> Network:
        """Return the network with its overlay, whose hosts are those that the engine tells of.

        Raises: Unavailable: the engine has told nothing yet. BadRequest: the MTU does not fit.
        """
        if network.options.encrypted:
            raise BadRequest(f"cannot create network {network.id[:12]}: {_NO_KEYS}")
        own = self._own()
        if own is None:
            raise Unavailable(
                f"cannot create network {network.id[:12]}: the engine has not told which address this node has in the"
                " swarm; is it in one? Else add -o peers=ADDRESS,ADDRESS or set PYNET_CLUSTER"
            )
        vtep = ip_address(own)
        room = self._mtu_of(vtep)
        if room is None:
            raise Unavailable(f"cannot create network {network.id[:12]}: no link of this host has the address {own}")
        ways = [way for node in self._others() if (way := self._way_to(ip_address(node))) is not None and not way.local]
        vni = network.options.vni if network.options.vni is not None else derived_vni(network.options.name)
        overlay = Overlay(vni, network.options.vxlan_port, own, peers=())
        return replace(network, overlay=overlay, mtu=mtu_inside(network, [Way(vtep, room, local=True), *ways]))

    def claim(self, network: Network, endpoint: Endpoint) -> None:
        """Nothing is done: a swarm gives out an address once."""

    def release(self, network: Network, endpoint_id: str) -> None:
        """Nothing is done."""

    def look_again(self) -> None:
        """The hosts of each overlay of the swarm are its nodes; what failed was logged, and is tried again."""
        own, others = self._own(), self._others()
        if own is None:
            return
        networks = [row.current for row in self._store.rows(NETWORKS) if row.current is not None]
        for network in networks:
            if not _is_of_swarm(network):
                continue
            version = ip_address(own).version
            wanted = {f"{network.id}/{node}": node for node in others if ip_address(node).version == version}
            known = {row.id: row for row in self._store.rows(REMOTE_HOSTS, parent=network.id)}
            for record_id in sorted(wanted.keys() | known.keys()):
                remote = RemoteHost(wanted[record_id]) if record_id in wanted else None
                row = known.get(record_id)
                if row is None or row.pending or row.current != remote:
                    self._follow(network, record_id, remote)

    def _follow(self, network: Network, record_id: str, remote: RemoteHost | None) -> None:
        with self._locks.hold(network.id):
            row = self._store.get(NETWORKS, network.id)
            if row is None or row.current is None:
                return
            try:
                self._reconciler.transition(self._plans.remote_hosts, record_id, remote, parent=network.id)
            except Exception as exc:  # noqa: BLE001 - one node that fails must not keep the others out
                failure(log, exc)

    def _allocation(self, network_id: str, options: NetworkOptions) -> Allocation:
        """Return a VNI that no other network of the swarm has, as far as this manager knows.

        Raises: Conflict: it is not free. Exhausted.
        """
        rows = self._store.rows(ALLOCATIONS)
        given = {row.current: row.id for row in rows if row.current is not None and row.id != network_id}
        networks = [row.current for row in self._store.rows(NETWORKS) if row.current is not None]
        given |= {
            Allocation(network.overlay.vni, network.overlay.port): network.id
            for network in networks
            if network.overlay is not None and network.id != network_id
        }
        if options.vni is not None:
            wanted = Allocation(options.vni, options.vxlan_port)
            if wanted in given:
                raise Conflict(
                    f"cannot create network {network_id[:12]}: VNI {wanted.vni} on port {wanted.port} is that of"
                    f" network {given[wanted][:12]}; choose another -o vni, or leave it out"
                )
            return wanted
        start = derived_vni(options.name) - DERIVED_VNIS.start
        vnis = (DERIVED_VNIS[(start + step) % len(DERIVED_VNIS)] for step in range(_TRIES))
        for allocation in (Allocation(vni, options.vxlan_port) for vni in vnis):
            if allocation not in given:
                return allocation
        raise Exhausted(f"cannot create network {network_id[:12]}: {_TRIES} VNIs in a row are taken; choose -o vni")

    def _own(self) -> str | None:
        """Return this node's address, None if the engine has not told it."""
        nodes = {row.id: row.current for row in self._store.rows(NODES)}
        return next((address for address, node in nodes.items() if node is not None and node.own), None)

    def _others(self) -> list[str]:
        return [row.id for row in self._store.rows(NODES) if row.current is not None and not row.current.own]

    def _save(self, kind: Kind[Any], row_id: str, record: Allocation | Node | None) -> None:
        """The record is as given, or gone if that is None."""
        self._store.intend(kind, row_id, "", record)
        self._store.commit(kind, row_id)


def _is_of_swarm(network: Network) -> bool:
    """Tell whether its hosts are the swarm's nodes: neither were peers named, nor does etcd say who they are."""
    return network.overlay is not None and not network.overlay.peers and not network.overlay.name


def _parse_node(request: wire.DiscoveryRequest) -> tuple[str, bool]:
    """Return the address of a node, and whether it is this one; "" if the engine tells of something else.

    Raises: BadRequest: the address is none.
    """
    data = request.DiscoveryData
    if request.DiscoveryType != _NODE_DISCOVERY or not isinstance(data, Mapping):
        return "", False
    try:
        return str(ip_address(str(data.get("Address", "")))), bool(data.get("Self"))
    except ValueError as exc:
        raise BadRequest(f"cannot tell a node of the swarm by the address {data.get('Address')!r}") from exc
