"""What this host says in etcd: which networks it is on, and which addresses are its own.

Each write is one transaction, which holds only if this start of pynet is still the last one of its host: a process that
was cut off and thought dead writes nothing any more. Each may be repeated when its answer was lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from itertools import chain

from netplugin.cluster import keys
from netplugin.cluster.etcd import Delete, Entry, Etcd, Is, Put
from netplugin.machine import Address, Way
from netplugin.options import VXLAN_PORT
from netplugin.overlay import tunnel
from netplugin.overlay.decide import DERIVED_VNIS, OVERHEAD_BYTES, derived_vni
from netplugin.records import Endpoint, Network, Overlay
from pluginkit import wire
from pluginkit.errors import BadRequest, Conflict, Exhausted, Unavailable

log = logging.getLogger(__name__)

TTL_S = 15
_TRIES = 20


Reserves = Callable[[str, IPv4Interface | IPv6Interface], bool]


def _nothing(_name: str, _address: IPv4Interface | IPv6Interface) -> bool:
    return False


class Superseded(Unavailable):
    """Another pynet has started as this host: this one writes nothing any more."""


class Directory:
    """The cluster, as one host sees it. Threads may share it.

    host: the host's ID. vtep: its address in the underlay. room: the largest packet that leaves by that address.
    public_key: that of its WireGuard link; asked for when a network is encrypted.
    """

    def __init__(
        self,
        etcd: Etcd,
        host: str,
        host_name: str,
        vtep: Address,
        room: int,
        way_to: Callable[[Address], Way | None],
        public_key: Callable[[], str] = str,
    ) -> None:
        self.etcd = etcd
        self.host, self.vtep = host, vtep
        self._host_name, self._room, self._way_to, self._public_key = host_name, room, way_to, public_key
        # The revision in which this start was written down; 0: not yet.
        self._registered = 0
        self.lease = 0
        # Something could not be told, and is to be when etcd is there again.
        self.owes = False

    def register(self) -> None:
        """This start is the host's last one, and the host counts as alive.

        Raises: Unavailable.
        """
        self.lease = self.etcd.grant(TTL_S)
        key = keys.host_key(self.host)
        while True:
            before = self.etcd.get(key)
            epoch = wire.decode(before.value, keys.HostValue).epoch if before.revision else 0
            now = keys.HostValue(self._host_name, str(self.vtep), epoch + 1)
            alive = Put(keys.alive_key(self.host), str(now.epoch).encode(), self.lease)
            revision = self.etcd.transact([Is(key, before.revision)], [Put(key, wire.encode(now)), alive])
            if revision:
                self._registered = revision
                return

    def is_forgotten(self) -> bool:
        """Return whether etcd does not know this host, as after the loss of its data. Raises: Unavailable."""
        return not self.etcd.get(keys.host_key(self.host)).revision

    def stay_alive(self) -> bool:
        """Return whether the host still counts as alive; it does for another while then. Raises: Unavailable."""
        return self.etcd.keep(self.lease)

    def join(self, network: Network, *, shared: bool = False) -> Network:
        """Return the network as the cluster has it; this host is on it.

        shared: its addresses come from a pool of the cluster.

        Raises: Unavailable; Conflict: the cluster's network is another one; BadRequest: it does not fit this host.
        """
        name = network.options.name
        pools = f"{keys.POOL}{name}/"
        if not shared and self.etcd.list(pools).entries:
            raise Conflict(
                f"cannot create network {name}: its addresses come from the cluster; add --ipam-driver pynet"
                f" --ipam-opt name={name}"
            )
        unshared = [] if shared else [Is(pools, 0, every=True)]
        # Looked for once more at the end: another host may have made it while this one tried.
        for vni in chain([None], _vnis(network), [None]):
            found = self.etcd.get(keys.network_key(name))
            if found.revision:
                value = wire.decode(found.value, keys.NetworkValue)
                self._check(network, value)
                changes: list[Put | Delete] = [self._membership(network)]
                if self.write([Is(found.key, found.revision), *unshared], changes):
                    return self._decided(network, value)
            elif vni is not None:
                port = network.options.vxlan_port
                value = self._value(network, vni)
                taken = keys.vni_key(vni, port)
                changes = [Put(found.key, wire.encode(value)), Put(taken, name.encode()), self._membership(network)]
                if self.write([Is(found.key, 0), Is(taken, 0), *unshared], changes):
                    return self._decided(network, value)
        asked = network.overlay.vni if network.overlay is not None else network.options.vni
        if asked is not None:
            port = network.options.vxlan_port
            holder = self.etcd.get(keys.vni_key(asked, port)).value.decode() or "another network"
            raise Conflict(
                f"cannot create network {name}: VNI {asked} on UDP port {port} is in the cluster that of {holder};"
                " choose another -o vni, or leave it out"
            )
        raise Exhausted(f"cannot create network {name}: the VNIs that were tried are taken; choose one with -o vni")

    def tell(self, network: Network) -> None:
        """What stands in etcd of this host on the network is how it is. Raises: Unavailable."""
        self.write([], [self._membership(network)])

    def placed(self, network: Network) -> Network:
        """Return the network with this host's place in the underlay."""
        if network.overlay is None:
            return network
        return replace(network, overlay=replace(network.overlay, vtep=self._place(network)))

    def member_of(self, network: Network) -> keys.MemberValue:
        """Return what is to stand in etcd of this host on a network. Raises: StateError: its key cannot be used."""
        value = keys.MemberValue(self._place(network), network.id)
        if not network.options.encrypted:
            return value
        return replace(value, public_key=self._public_key(), endpoint=tunnel.endpoint_of(self.vtep))

    def claim(self, network: Network, endpoint: Endpoint) -> None:
        """The addresses are the endpoint's, and nobody else's in the cluster, and the others know where it is.

        Raises: Unavailable; Conflict: somebody else has one of them.
        """
        if network.overlay is None:
            return
        name = network.overlay.name
        mine = wire.encode(keys.AddressValue(self.host, endpoint.id))
        value = wire.encode(self.value_of(network, endpoint))
        for _ in range(_TRIES):
            conditions, changes = [], [Put(keys.endpoint_key(name, endpoint.id), value)]
            for address in _addresses(endpoint):
                held = self.etcd.get(keys.address_key(name, address.ip))
                if held.revision:
                    self._check_holder(name, address, held, endpoint)
                conditions.append(Is(held.key, held.revision))
                changes.append(Put(held.key, mine))
            if self.write(conditions, changes):
                return
        raise Unavailable(f"cannot have addresses of {name}: others change them at the same time; try again")

    def value_of(self, network: Network, endpoint: Endpoint) -> keys.EndpointValue:
        """Return what is to stand in etcd of an endpoint of this host."""
        where = self.host, self._place(network), endpoint.mac
        return keys.EndpointValue(*where, endpoint.address4, endpoint.address6, endpoint.names)

    def release(self, name: str, endpoint_id: str, reserves: Reserves = _nothing) -> None:
        """The endpoint's addresses are free, if they were its own. Raises: Unavailable.

        reserves: tells whether an address stays this host's all the same.
        """
        for _ in range(_TRIES):
            found = self.etcd.get(keys.endpoint_key(name, endpoint_id))
            if not found.revision:
                return
            value = wire.decode(found.value, keys.EndpointValue)
            if value.host != self.host:
                return
            conditions = [Is(found.key, found.revision)]
            changes: list[Put | Delete] = [Delete(found.key)]
            for address in (value.address4, value.address6):
                if address is not None:
                    held = self.etcd.get(keys.address_key(name, address.ip))
                    # A later endpoint of this host may have it already.
                    if held.revision and wire.decode(held.value, keys.AddressValue).endpoint == endpoint_id:
                        conditions.append(Is(held.key, held.revision))
                        kept = wire.encode(keys.AddressValue(self.host, ""))
                        changes.append(Put(held.key, kept) if reserves(name, address) else Delete(held.key))
            if self.write(conditions, changes):
                return

    def free_orphans(self, name: str, endpoints: Collection[str]) -> None:
        """Of this host's, only these endpoints have addresses of the network. Raises: Unavailable."""
        for entry in self.etcd.list(keys.addresses_prefix(name)).entries:
            holder = wire.decode(entry.value, keys.AddressValue)
            if holder.host == self.host and holder.endpoint not in endpoints:
                self.write([Is(entry.key, entry.revision)], [Delete(entry.key)])

    def leave(self, name: str) -> None:
        """This host is not on the network, which is no more if no other host is on it. Raises: Unavailable."""
        self.write([], [Delete(keys.member_key(name, self.host))])
        found = self.etcd.get(keys.network_key(name))
        if found.revision:
            value = wire.decode(found.value, keys.NetworkValue)
            ends = [Delete(found.key), Delete(keys.vni_key(value.vni, value.port))]
            self.write([Is(keys.members_prefix(name), 0, every=True), Is(found.key, found.revision)], ends)

    def write(self, conditions: Sequence[Is], changes: Sequence[Put | Delete]) -> bool:
        """Return whether the conditions held, and the changes are made.

        Raises: Unavailable: nobody answered, or this start is not the host's last one.
        """
        own = Is(keys.host_key(self.host), self._registered)
        if not self._registered:
            raise Unavailable("cannot use the cluster: etcd has not been reached since pynet started")
        if self.etcd.transact([own, *conditions], changes):
            return True
        if self.etcd.get(own.key).revision != self._registered:
            raise Superseded("cannot use the cluster: another pynet has started as this host; is its state copied?")
        return False

    def name_of(self, host: str) -> str:
        """Return how operators know a host, by its ID. Raises: Unavailable."""
        found = self.etcd.get(keys.host_key(host))
        return wire.decode(found.value, keys.HostValue).name if found.revision else host

    def _membership(self, network: Network) -> Put:
        return Put(keys.member_key(network.options.name, self.host), wire.encode(self.member_of(network)))

    def _place(self, network: Network) -> str:
        """Return where this host gets the network's frames: in the underlay, or inside of its WireGuard link."""
        return tunnel.address_inside(network.options.name, self.host) if network.options.encrypted else str(self.vtep)

    def _spare(self, network: Network, room: int) -> int:
        """Return what is left for a packet of the network in one of `room` bytes."""
        if not network.options.encrypted:
            return room - OVERHEAD_BYTES[self.vtep.version]
        inside = room - tunnel.OVERHEAD_BYTES[self.vtep.version]
        if inside < tunnel.LOWEST_MTU:
            raise BadRequest(
                f"cannot create network {network.options.name}: encrypted packets have {inside} bytes on the way to its"
                f" hosts, and IPv6 needs {tunnel.LOWEST_MTU}; leave -o encrypted out, or give the way a larger MTU"
            )
        return inside - OVERHEAD_BYTES[6]

    def _check(self, network: Network, value: keys.NetworkValue) -> None:
        options, name = network.options, network.options.name
        here, there = keys.subnets_of(network), value.subnets
        if here != there:
            raise Conflict(
                f"cannot create network {name}: the cluster has it with {_spelled(there)}, not {_spelled(here)}; use"
                " those --subnet and --gateway, or another -o name"
            )
        if options.vni not in (None, value.vni) or options.vxlan_port not in (VXLAN_PORT, value.port):
            raise Conflict(
                f"cannot create network {name}: the cluster has it with VNI {value.vni} on port {value.port}; leave"
                " -o vni and -o vxlan_port out"
            )
        if options.encrypted != value.encrypted:
            raise Conflict(
                f"cannot create network {name}: the cluster has it {'' if value.encrypted else 'not '}encrypted; "
                + ("add -o encrypted=true" if value.encrypted else "leave -o encrypted out")
            )
        if network.overlay is not None and (network.overlay.vni, network.mtu) != (value.vni, value.mtu):
            raise Conflict(
                f"cannot take network {name} into the cluster: that has it with VNI {value.vni} and an MTU of"
                f" {value.mtu}, and here it is {network.overlay.vni} and {network.mtu}, which its containers keep;"
                " remove it here and create it again"
            )
        room = self._narrowest(network)
        if value.mtu > room or options.mtu not in (None, value.mtu):
            raise BadRequest(
                f"cannot create network {name}: the cluster has it with an MTU of {value.mtu}, this host has room for"
                f" {room}, and {options.mtu or 'nothing'} was asked for; it must be the same everywhere"
            )

    def _value(self, network: Network, vni: int) -> keys.NetworkValue:
        options = network.options
        return keys.NetworkValue(
            vni, options.vxlan_port, self._mtu(network), keys.subnets_of(network), options.encrypted
        )

    def _mtu(self, network: Network) -> int:
        room = self._spare(network, self._room)
        wanted = network.options.mtu or (network.mtu if network.overlay is not None else room)
        if wanted > room:
            raise BadRequest(f"cannot create network: an MTU of {wanted} does not fit, this host has room for {room}")
        return wanted

    def _narrowest(self, network: Network) -> int:
        """Return the MTU that the way to every member of a network leaves."""
        widths = [self._room]
        for member in self.etcd.list(keys.members_prefix(network.options.name)).entries:
            try:
                value = wire.decode(member.value, keys.MemberValue)
                way = self._way_to(ip_address(tunnel.address_of(value.endpoint) if value.endpoint else value.vtep))
            except (BadRequest, ValueError):
                # Who listens says so; it must keep nobody out.
                continue
            if way is not None and not way.local:
                widths.append(way.mtu)
        return self._spare(network, min(widths))

    def _decided(self, network: Network, value: keys.NetworkValue) -> Network:
        overlay = Overlay(value.vni, value.port, self._place(network), (), network.options.name)
        return replace(network, overlay=overlay, mtu=value.mtu)

    def _check_holder(self, name: str, address: IPv4Interface | IPv6Interface, held: Entry, endpoint: Endpoint) -> None:
        """Raises: Conflict: another host has the address. This host's own engine gives it out once only."""
        holder = wire.decode(held.value, keys.AddressValue)
        if holder.host == self.host:
            return
        host_name = self.name_of(holder.host)
        raise Conflict(
            f"cannot create endpoint {endpoint.id[:12]}: {address.ip} of {name} is in use by endpoint"
            f" {holder.endpoint[:12]} on host {host_name}; choose another --ip, or an --ip-range for each host"
        )


def _addresses(endpoint: Endpoint) -> list[IPv4Interface | IPv6Interface]:
    return [address for address in (endpoint.address4, endpoint.address6) if address is not None]


def _vnis(network: Network) -> Iterator[int]:
    """Yield the VNIs to try: the one that it has or that was asked for, or from the one of the name upwards."""
    if network.overlay is not None:
        yield network.overlay.vni
        return
    if network.options.vni is not None:
        yield network.options.vni
        return
    start = derived_vni(network.options.name) - DERIVED_VNIS.start
    for step in range(_TRIES):
        yield DERIVED_VNIS[(start + step) % len(DERIVED_VNIS)]


def _spelled(subnets: tuple[tuple[str, str], ...]) -> str:
    return " and ".join(f"{pool} (gateway {gateway or 'none'})" for pool, gateway in subnets)
