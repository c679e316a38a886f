"""What others say in etcd becomes records of this host, one by one, and what this host says follows its records."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from typing import Any, Literal, Protocol

from netplugin.cluster import keys
from netplugin.cluster.directory import Directory
from netplugin.cluster.etcd import Entry
from netplugin.ipam.pools import IPAddress
from netplugin.kinds import ENDPOINTS, NETWORKS, REMOTE_ENDPOINTS, REMOTE_HOSTS
from netplugin.overlay.decide import is_alone
from netplugin.overlay.tunnel import address_inside
from netplugin.plan import Plans
from netplugin.records import Network, RemoteEndpoint, RemoteHost
from pluginkit.errors import BadRequest, Conflict, Exhausted, StateError
from pluginkit.locks import Locks
from pluginkit.log import failure
from pluginkit.reconcile import Planned, Reconciler
from pluginkit.store import Kind, Store

log = logging.getLogger(__name__)

Value = keys.MemberValue | keys.EndpointValue | keys.LentValue
_KINDS: dict[Literal["host", "endpoint", "lent"], Kind[Any]] = {"host": REMOTE_HOSTS, "endpoint": REMOTE_ENDPOINTS}


class Addresses(Protocol):
    """What is asked of who gives the addresses of shared pools. Raises: Unavailable, each of them that asks etcd."""

    def is_shared(self, network: Network) -> bool:
        """Tell whether the addresses of the network come from the cluster."""

    def grants(self, name: str, interface: IPv4Interface | IPv6Interface) -> bool:
        """Tell whether the address was given here, so that no other host can have it."""

    def reserves(self, name: str, interface: IPv4Interface | IPv6Interface) -> bool:
        """Tell whether it was, and only by what stands in etcd."""

    def doubt(self) -> None:
        """Addresses may stand in etcd as this host's that are not: `settle` looks for them."""

    def restore(self, entries: Iterable[Entry]) -> None:
        """What stands in etcd of this host's pools and blocks is as the records say."""

    def settle(self, lents: Mapping[str, Mapping[IPAddress, tuple[Entry, keys.LentValue]]]) -> None:
        """Addresses that hosts have of others' blocks are on record."""

    def hear(self, name: str, address: IPAddress, entry: Entry, value: keys.LentValue | None) -> None:
        """A host has, wants or had (None) an address of another's block: that is on record, and answered."""


class ClusterDriver:
    """Keeps the records of remote hosts and endpoints; takes the network's lock for each, as a verb does."""

    def __init__(
        self,
        store: Store,
        reconciler: Reconciler,
        locks: Locks,
        plans: Plans,
        directory: Directory,
        addresses: Addresses,
    ) -> None:
        self._store, self._reconciler, self._locks, self._directory = store, reconciler, locks, directory
        self._addresses = addresses
        self._networks_plan = plans.networks
        self._planned: dict[str, Planned[Any]] = {"host": plans.remote_hosts, "endpoint": plans.remote_endpoints}

    def follow(self, entries: Iterable[Entry]) -> None:
        """The records are as these changes say; one with revision 0 is of a key that is gone."""
        networks = self._networks()
        for entry in entries:
            place = keys.place_of(entry.key)
            if place is not None and place.what == "lent":
                self._hear(place, entry)
            elif place is not None and place.network in networks:
                value = _parsed(place, entry) if entry.revision else None
                if value is not None or not entry.revision:
                    self._learn(networks[place.network], place, value)

    def adopt(self, entries: Iterable[Entry], pools: Iterable[Entry]) -> None:
        """The records are as these complete listings say, and what they say of this host is as its own records say.

        entries, pools: all below keys.AT, and below keys.POOL.

        Raises: Unavailable: etcd was lost on the way; to be repeated.
        """
        self._addresses.restore(pools)
        listed: dict[str, dict[keys.Place, Value]] = {}
        lents: dict[str, dict[IPAddress, tuple[Entry, keys.LentValue]]] = {}
        for entry in entries:
            place = keys.place_of(entry.key)
            value = _parsed(place, entry) if place is not None else None
            if place is not None and isinstance(value, keys.LentValue):
                lents.setdefault(place.network, {})[ip_address(place.id)] = (entry, value)
            elif place is not None and value is not None:
                listed.setdefault(place.network, {})[place] = value
        for name, network in self._networks().items():
            there = listed.pop(name, {})
            # What this host says first: others wait for it, and it gets over the loss of all that was in etcd.
            self._publish(name, network, there)
            for what, kind in _KINDS.items():
                for row in self._store.rows(kind, parent=network.id):
                    place = keys.Place(name, what, row.id.rpartition("/")[2])
                    if place not in there:
                        self._learn(network, place, None)
            for place, value in there.items():
                self._learn(network, place, value)
        for name, there in listed.items():
            self._withdraw(name, there)
        # Last, when what has ended here has been told: others may want its addresses.
        self._addresses.settle(lents)

    def _hear(self, place: keys.Place, entry: Entry) -> None:
        value = _parsed(place, entry) if entry.revision else None
        if value is None or isinstance(value, keys.LentValue):
            try:
                self._addresses.hear(place.network, ip_address(place.id), entry, value)
            except Exception as exc:  # noqa: BLE001 - as for endpoints: one that fails must not keep the others out
                failure(log, exc)
                self._directory.owes = True

    def _learn(self, network: Network, place: keys.Place, value: Value | None) -> None:
        """The record of one remote host or endpoint is what `value` says; None: there is none."""
        remote = self._remote(network, place, value)
        record_id = f"{network.id}/{place.id}"
        row = self._store.get(_KINDS[place.what], record_id)
        if (row is None and remote is None) or (row is not None and not row.pending and row.current == remote):
            return
        with self._locks.hold(network.id):
            known = self._store.get(NETWORKS, network.id)
            if known is None or known.current is None or is_alone(known.current):
                return
            try:
                self._reconciler.transition(self._planned[place.what], record_id, remote, parent=network.id)
            except Exception as exc:  # noqa: BLE001 - one that fails must not keep the others out; it is tried again
                failure(log, exc)

    def _remote(self, network: Network, place: keys.Place, value: Value | None) -> RemoteHost | RemoteEndpoint | None:
        """Return what a key says; None for one of this host's own, or what would be sent in the clear and must not."""
        host = value.host if isinstance(value, keys.EndpointValue) else place.id
        if value is None or isinstance(value, keys.LentValue) or host == self._directory.host:
            return None
        if network.options.encrypted and value.vtep != address_inside(place.network, host):
            log.error("cannot send to %s of %s: it does not encrypt, and the network does", value.vtep, place.network)
            return None
        if isinstance(value, keys.MemberValue):
            return RemoteHost(value.vtep, value.public_key, value.endpoint)
        return RemoteEndpoint(value.mac, value.vtep, value.address4, value.address6, value.names)

    def _publish(self, name: str, network: Network, there: Mapping[keys.Place, Value]) -> None:
        """What etcd says of this host on the network is what the records say.

        Under the network's lock, so that a verb under way is not taken for something forgotten.
        """
        with self._locks.hold(network.id):
            row = self._store.get(NETWORKS, network.id)
            if row is None or row.current is None:
                return
            member = there.get(keys.Place(name, "host", self._directory.host))
            is_forgotten = member is None
            is_shared = self._addresses.is_shared(network)
            try:
                if is_forgotten:
                    self._directory.join(network, shared=is_shared)
                elif network.options.encrypted and member != self._directory.member_of(network):
                    # It has another key, or another place in the underlay.
                    self._directory.tell(network)
            except (Conflict, BadRequest, Exhausted, StateError) as exc:
                # It must not keep the other networks out.
                failure(log, exc)
                return
            if is_alone(network):
                # It was made when this host was alone. Its containers stay as they are: only its device is another one.
                self._reconciler.transition(self._networks_plan, network.id, self._directory.placed(network))
            rows = self._store.rows(ENDPOINTS, parent=network.id)
            own = {child.id: child.current for child in rows if child.current is not None}
            # What ended since stands there without its endpoint.
            if is_forgotten and is_shared:
                self._addresses.doubt()
            elif is_forgotten:
                self._directory.free_orphans(name, own)
            for place, value in there.items():
                if place.id not in own and self._is_own(value):
                    self._directory.release(name, place.id, self._addresses.reserves)
            for endpoint in own.values():
                if there.get(keys.Place(name, "endpoint", endpoint.id)) != self._directory.value_of(network, endpoint):
                    try:
                        self._directory.claim(network, endpoint)
                    except Conflict as exc:
                        # Never renumbered in silence: the container runs, and the operator decides which one may.
                        failure(log, exc)

    def _withdraw(self, name: str, there: Mapping[keys.Place, Value]) -> None:
        """Etcd says nothing of this host on a network that it is not on any more."""
        for place, value in there.items():
            if self._is_own(value):
                self._directory.release(name, place.id, self._addresses.reserves)
        member = there.get(keys.Place(name, "host", self._directory.host))
        if isinstance(member, keys.MemberValue):
            # It may just be about to be made.
            with self._locks.hold(member.network):
                if name not in self._networks():
                    self._directory.leave(name)

    def _is_own(self, value: Value) -> bool:
        """Tell whether it speaks of an endpoint of this host."""
        return isinstance(value, keys.EndpointValue) and value.host == self._directory.host

    def _networks(self) -> dict[str, Network]:
        """Return this host's networks of the cluster, by name."""
        networks = [row.current for row in self._store.rows(NETWORKS) if row.current is not None]
        return {network.overlay.name: network for network in networks if network.overlay and network.overlay.name}


def _parsed(place: keys.Place, entry: Entry) -> Value | None:
    """Return what stands in a key; None, and a line in the log, if that cannot be read."""
    try:
        return keys.parse_value(place, entry.value)
    except BadRequest as exc:
        log.error("cannot read %s in etcd: %s; delete it", entry.key, exc)
        return None
