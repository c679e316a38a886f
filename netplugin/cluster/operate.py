"""What an operator sees of the cluster and does to it, from outside of any pynet: etcd and this host's kernel only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netplugin.cluster import keys
from netplugin.cluster.etcd import Delete, Entry, Etcd, Is, Put
from netplugin.cluster.withdraw import leave_pool
from netplugin.overlay.plan import EVERYBODY
from netplugin.overlay.tunnel import LINK, TunnelPeer
from netplugin.resources import FdbEntry, Neighbour, Vxlan
from pluginkit import wire
from pluginkit.errors import BadRequest, Conflict, NotFound


@dataclass(frozen=True)
class HostLine:
    """A host that takes part. networks, endpoints: how many it has."""

    id: str
    name: str
    vtep: str
    alive: bool
    networks: int
    endpoints: int


@dataclass(frozen=True)
class NetworkLine:
    """A network of the cluster. hosts, endpoints: how many it has."""

    name: str
    value: keys.NetworkValue
    hosts: int
    endpoints: int


@dataclass(frozen=True)
class KernelView:
    """This host's kernel: its overlay devices, our permanent entries and neighbours, peers of its WireGuard link."""

    devices: tuple[Vxlan, ...]
    entries: frozenset[FdbEntry]
    neighbours: frozenset[Neighbour]
    peers: frozenset[TunnelPeer] = frozenset()


@dataclass(frozen=True)
class Comparison:
    """This host's kernel beside etcd. entries, neighbours: how many etcd has for this host, on these networks."""

    networks: tuple[str, ...]
    entries: int
    neighbours: int
    differences: tuple[str, ...]


def hosts(etcd: Etcd) -> list[HostLine]:
    """Return the hosts by name. Raises: Unavailable."""
    alive = {entry.key.rpartition("/")[2] for entry in etcd.list(keys.alive_key("")).entries}
    said = _said(etcd)
    lines = []
    for entry in etcd.list(keys.host_key("")).entries:
        host, value = entry.key.rpartition("/")[2], wire.decode(entry.value, keys.HostValue)
        members = [place for place in said if (place.what, place.id) == ("host", host)]
        endpoints = [one for one in said.values() if isinstance(one, keys.EndpointValue) and one.host == host]
        lines.append(HostLine(host, value.name, value.vtep, host in alive, len(members), len(endpoints)))
    return sorted(lines, key=lambda line: (line.name, line.id))


def networks(etcd: Etcd) -> list[NetworkLine]:
    """Return the networks by name. Raises: Unavailable."""
    said = _said(etcd)
    lines = []
    for entry in etcd.list(keys.network_key("")).entries:
        name = entry.key.rpartition("/")[2]
        what = [place.what for place in said if place.network == name]
        value = wire.decode(entry.value, keys.NetworkValue)
        lines.append(NetworkLine(name, value, what.count("host"), what.count("endpoint")))
    return lines


def forget(etcd: Etcd, wanted: str, *, off: bool) -> HostLine:
    """No frames are sent to the host any more; return what it had. If it comes back, all is as it was.

    wanted: its ID or its name. off: it will not come back, so its addresses and blocks are free, and it is unknown.
    Raises: NotFound; Conflict: it is alive, or two have that name; Unavailable.
    """
    found = [line for line in hosts(etcd) if wanted in (line.id, line.name)]
    if not found:
        raise NotFound(f"cannot forget host {wanted}: the cluster knows no such host; see pynet cluster hosts")
    if len(found) > 1:
        ids = ", ".join(line.id for line in found)
        raise Conflict(f"cannot forget host {wanted}: several have that name; say which by its ID: {ids}")
    [line] = found
    if line.alive:
        raise Conflict(f"cannot forget host {wanted}: it is alive, and would say again what is its own; stop its pynet")

    def write(conditions: Sequence[Is], changes: Sequence[Put | Delete]) -> bool:
        """While it stays silent: one that comes back meanwhile is left as it is."""
        if etcd.transact([Is(keys.alive_key(line.id), 0), *conditions], changes):
            return True
        if etcd.get(keys.alive_key(line.id)).revision:
            raise Conflict(f"cannot forget all of host {wanted}: it came back meanwhile; stop its pynet and try again")
        return False

    for place, value in _said(etcd).items():
        if isinstance(value, keys.EndpointValue) and value.host == line.id:
            addresses = [address for address in (value.address4, value.address6) if address is not None]
            held = [etcd.get(keys.address_key(place.network, address.ip)) for address in addresses] if off else []
            own = [entry.key for entry in held if _holder(entry) == line.id]
            write([], [Delete(key) for key in (keys.endpoint_key(place.network, place.id), *own)])
        elif (place.what, place.id) == ("host", line.id):
            write([], [Delete(keys.member_key(place.network, line.id))])
            _end_if_empty(etcd, place.network)
    if off:
        for entry in etcd.list(keys.POOL).entries:
            part = keys.pool_part_of(entry.key)
            if part is not None and (part.what, part.id) == ("host", line.id):
                leave_pool(etcd, write, line.id, part.network, part.version)
        write([], [Delete(keys.host_key(line.id))])
    return line


def compare(etcd: Etcd, kernel: KernelView) -> Comparison:
    """Return how this host's kernel differs from what etcd says, one line each, none if it does not.

    Networks that are not of the cluster are not looked at. Raises: Unavailable.
    """
    names = {(line.value.vni, line.value.port): line.name for line in networks(etcd)}
    said = _said(etcd)
    compared: list[str] = []
    everything: list[FdbEntry | Neighbour] = []
    lines: list[str] = []
    peers: set[TunnelPeer] = set()
    for device in kernel.devices:
        name = names.get((device.vni, device.port))
        if name is None:
            continue
        wanted = set(_wanted(name, device, said))
        have: set[FdbEntry | Neighbour] = {entry for entry in kernel.entries if entry.link == device.name}
        have |= {neighbour for neighbour in kernel.neighbours if neighbour.link == device.bridge}
        lines += [f"{name}: missing: {_spelled(one)}" for one in wanted - have]
        lines += [f"{name}: not in etcd: {_spelled(one)}" for one in have - wanted]
        peers |= set(_peers(name, device, said))
        compared.append(name)
        everything += wanted
    lines += [f"{LINK}: missing: {_spelled(one)}" for one in peers - kernel.peers]
    lines += [f"{LINK}: not in etcd: {_spelled(one)}" for one in kernel.peers - peers]
    entries = sum(isinstance(one, FdbEntry) for one in everything)
    return Comparison(tuple(sorted(compared)), entries, len(everything) - entries, tuple(sorted(lines)))


def _wanted(
    name: str, device: Vxlan, said: dict[keys.Place, keys.MemberValue | keys.EndpointValue]
) -> Iterator[FdbEntry | Neighbour]:
    for place, value in said.items():
        if place.network != name:
            continue
        # Who is on this host is behind a port of the bridge, which learns that by itself.
        if value.vtep != device.local:
            mac = EVERYBODY if isinstance(value, keys.MemberValue) else value.mac
            yield FdbEntry(device.name, mac, value.vtep)
        if isinstance(value, keys.MemberValue):
            continue
        for address in (value.address4, value.address6):
            if address is not None:
                yield Neighbour(device.bridge, address.ip, value.mac)


def _peers(
    name: str, device: Vxlan, said: dict[keys.Place, keys.MemberValue | keys.EndpointValue]
) -> Iterator[TunnelPeer]:
    for place, value in said.items():
        is_other = place.network == name and value.vtep != device.local
        if is_other and isinstance(value, keys.MemberValue) and value.public_key:
            yield TunnelPeer(value.vtep, value.public_key, value.endpoint)


def _spelled(one: FdbEntry | Neighbour | TunnelPeer) -> str:
    if isinstance(one, TunnelPeer):
        return f"peer {one.public_key} at {one.endpoint} with {one.address or 'no address'}"
    if isinstance(one, FdbEntry):
        return f"entry {one.mac} to {one.vtep} on {one.link}"
    return f"neighbour {one.address} at {one.mac} on {one.link}"


def _said(etcd: Etcd) -> dict[keys.Place, keys.MemberValue | keys.EndpointValue]:
    said: dict[keys.Place, keys.MemberValue | keys.EndpointValue] = {}
    for entry in etcd.list(keys.AT).entries:
        place = keys.place_of(entry.key)
        try:
            value = keys.parse_value(place, entry.value) if place is not None else None
            if place is not None and value is not None and not isinstance(value, keys.LentValue):
                said[place] = value
        except BadRequest:
            # The hosts pass it over too, and say so in their logs.
            continue
    return said


def _holder(entry: Entry) -> str:
    return wire.decode(entry.value, keys.AddressValue).host if entry.revision else ""


def _end_if_empty(etcd: Etcd, name: str) -> None:
    found = etcd.get(keys.network_key(name))
    if found.revision:
        value = wire.decode(found.value, keys.NetworkValue)
        ends = [Delete(found.key), Delete(keys.vni_key(value.vni, value.port))]
        etcd.transact([Is(keys.members_prefix(name), 0, every=True), Is(found.key, found.revision)], ends)
