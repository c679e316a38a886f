"""What this host says in etcd of pools that hosts share: that it uses one, and which blocks and addresses it has.

A block is one host's until that host gives it back, so it gives addresses of it without asking anybody. An address of
another host's block can be had from that host only, which answers in `grant`; one of nobody's block from etcd alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from netplugin.cluster import keys
from netplugin.cluster.directory import TTL_S, Directory
from netplugin.cluster.etcd import Delete, Entry, Etcd, Is, Put
from netplugin.cluster.withdraw import free_address, leave_pool, owner_of
from netplugin.ipam.blocks import block_of, block_prefixlen, first_untouched
from netplugin.ipam.pools import IPAddress, IPNetwork, usable
from pluginkit import wire
from pluginkit.errors import Conflict, Exhausted, NotFound, Unavailable

_TRIES = 50
# How long the owner of a block is waited for; dockerd waits longer.
_GRANT_WAIT_S, _GRANT_LOOK_S = 4.0, 0.03
# etcd takes 128 operations in one transaction.
_MOST_CHANGES = 100
_EVERYBODY = "aux"


# Of a network, the pool of one family.
Part = tuple[str, int]


@dataclass(frozen=True)
class Taken:
    """A block that is this host's now. given: addresses of it that others have, with whose they are."""

    block: IPNetwork
    given: tuple[tuple[IPAddress, str], ...]


class SharedPools:
    """The pools of the cluster, as one host sees them. Threads may share it."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    @property
    def host(self) -> str:
        """The host's ID."""
        return self._directory.host

    @property
    def _etcd(self) -> Etcd:
        return self._directory.etcd

    def open(self, name: str, version: int, wanted: str, choose: Callable[[Sequence[IPNetwork]], IPNetwork]) -> str:
        """Return the subnet of the network's pool; this host uses it.

        wanted: the one that was asked for, or "". choose: returns one that overlaps with none of those given.

        Raises: Unavailable; Conflict: the pool is another one, or the network has none; whatever `choose` raises.
        """
        user = Put(keys.user_key(name, version, self.host), wire.encode(keys.UserValue()))
        for _ in range(_TRIES):
            found = self._etcd.get(keys.pool_key(name, version))
            if found.revision:
                value = wire.decode(found.value, keys.PoolValue)
                if wanted not in ("", value.subnet):
                    raise Conflict(
                        f"cannot give the pool {wanted}: the cluster has {name} with {value.subnet}; use that --subnet,"
                        " or none, or another name"
                    )
                if self._directory.write([Is(found.key, found.revision)], [user]):
                    return value.subnet
                continue
            network = self._etcd.get(keys.network_key(name))
            if network.revision:
                raise Conflict(
                    f"cannot give a pool for {name}: the network is there, without a pool that its hosts share; leave"
                    " --ipam-opt name out, or use another name"
                )
            changed = self._etcd.get(keys.POOLS_CHANGED)
            subnet = ip_network(wanted) if wanted else choose(self._subnets())
            value = keys.PoolValue(str(subnet), "", block_prefixlen(subnet))
            conditions = [Is(found.key, 0), Is(network.key, 0), Is(changed.key, changed.revision)]
            changes = [Put(found.key, wire.encode(value)), Put(changed.key, name.encode()), user]
            if self._directory.write(conditions, changes):
                return value.subnet
        raise _contended(name)

    def gateway(self, name: str, version: int, wanted: IPAddress | None) -> IPAddress:
        """Return the gateway's address, which is no container's on any host.

        Raises: Unavailable; NotFound: the pool; Conflict: the cluster has another one, or a host has the address.
        """
        for _ in range(_TRIES):
            found, value = self._pool(name, version)
            if value.gateway:
                if wanted is not None and str(wanted) != value.gateway:
                    raise Conflict(
                        f"cannot give {wanted} as gateway: the cluster has {name} with {value.gateway}; use that"
                        " --gateway, or none"
                    )
                return ip_address(value.gateway)
            pool = ip_network(value.subnet)
            address = wanted or pool[usable(pool)[0]]
            block = self._etcd.get(keys.block_key(name, block_of(address, value.block)))
            held = self._etcd.get(keys.address_key(name, address))
            if held.revision or owner_of(block) not in ("", self.host):
                raise Conflict(
                    f"cannot give {address} as gateway: hosts give {name} addresses without one already; choose a"
                    " --gateway from the end of the subnet, or make the network without one"
                )
            decided = keys.PoolValue(value.subnet, str(address), value.block)
            conditions = [Is(found.key, found.revision), Is(block.key, block.revision), Is(held.key, 0)]
            if self._directory.write(conditions, [Put(found.key, wire.encode(decided))]):
                return address
        raise _contended(name)

    def take(self, name: str, version: int) -> Taken:
        """Return a block that was nobody's and is this host's.

        Raises: Unavailable; NotFound: the pool; Exhausted: every block is a host's.
        """
        for _ in range(_TRIES):
            found, value = self._pool(name, version)
            blocks = {entry.key.rpartition("/")[2]: entry for entry in self._blocks(name, version)}
            pool = ip_network(value.subnet)
            block = first_untouched(pool, value.block, value.gateway, blocks)
            if block is None:
                block = next(
                    (block_of(ip_address(key), value.block) for key in blocks if not owner_of(blocks[key])), None
                )
            if block is None:
                raise Exhausted(
                    f"cannot give an address: no available IPv{version} addresses in {pool}: every block of it is a"
                    " host's; remove containers here, the network from hosts without any, or use a larger --subnet"
                )
            before = blocks.get(str(block.network_address))
            # Nobody gives one of nobody's block without changing the block's key.
            given = tuple(
                (address, holder.host)
                for address, holder in self._held(name)
                if address in block and holder.host != self.host
            )[:_MOST_CHANGES]
            if value.gateway and ip_address(value.gateway) in block:
                given = ((ip_address(value.gateway), ""), *given)
            lent = [
                Put(keys.lent_key(name, address), wire.encode(keys.LentValue(self.host, host, granted=True)))
                for address, host in given
                if host
            ]
            conditions = [
                Is(found.key, found.revision),
                Is(keys.block_key(name, block), before.revision if before else 0),
                Is(keys.settling_key(name, version), 0),
            ]
            own = Put(keys.block_key(name, block), wire.encode(keys.BlockValue(self.host)))
            if self._directory.write(conditions, [own, *lent]):
                return Taken(block, given)
            self._check_settled(name, version)
        raise _contended(name)

    def give_back(self, name: str, block: IPNetwork) -> None:
        """The block is not this host's. Raises: Unavailable."""
        found = self._etcd.get(keys.block_key(name, block))
        if found.revision and owner_of(found) == self.host:
            self._directory.write([Is(found.key, found.revision)], [Delete(found.key)])

    def reserve(self, name: str, address: IPAddress, *, everybody: bool) -> None:
        """The address is this host's. everybody: it is no container's, and every host may ask for it.

        Raises: Unavailable; NotFound: the pool; Conflict: another host has it.
        """
        mine = keys.AddressValue("", _EVERYBODY) if everybody else keys.AddressValue(self.host, "")
        for _ in range(_TRIES):
            found, value = self._pool(name, address.version)
            held = self._etcd.get(keys.address_key(name, address))
            if held.revision:
                holder = wire.decode(held.value, keys.AddressValue)
                if holder == mine or (holder.host == self.host and not everybody):
                    return
                raise self._in_use(name, address, holder.host)
            if str(address) == value.gateway:
                raise Conflict(f"cannot give {address}: Address already in use, as gateway of {name}; choose another")
            block = self._etcd.get(keys.block_key(name, block_of(address, value.block)))
            owner = owner_of(block)
            if owner not in ("", self.host):
                if everybody:
                    raise self._in_use(name, address, owner)
                self._ask(name, address, owner)
                return
            settled = Is(keys.settling_key(name, address.version), 0)
            conditions = [Is(found.key, found.revision), Is(held.key, 0), Is(block.key, block.revision), settled]
            touched = [] if owner else [Put(block.key, wire.encode(keys.BlockValue("")))]
            if self._directory.write(conditions, [Put(held.key, wire.encode(mine)), *touched]):
                return
            self._check_settled(name, address.version)
        raise _contended(name)

    def free(self, name: str, address: IPAddress) -> None:
        """The address is not this host's, and whose block it is in is told. Raises: Unavailable."""
        found = self._etcd.get(keys.pool_key(name, address.version))
        if found.revision:
            prefixlen = wire.decode(found.value, keys.PoolValue).block
            free_address(self._etcd, self._directory.write, self.host, name, address, prefixlen)

    def close(self, name: str, version: int) -> None:
        """This host does not use the pool, which is no more if no other host does. Raises: Unavailable."""
        leave_pool(self._etcd, self._directory.write, self.host, name, version)

    def restore(self, name: str, pool: IPNetwork, gateway: str) -> None:
        """The cluster knows the pool, and that this host uses it, also if it had lost it.

        Raises: Unavailable; Conflict: the cluster has another pool of that name now.
        """
        version = pool.version
        user = Put(keys.user_key(name, version, self.host), wire.encode(keys.UserValue()))
        for _ in range(_TRIES):
            found = self._etcd.get(keys.pool_key(name, version))
            value = wire.decode(found.value, keys.PoolValue) if found.revision else None
            known = gateway or (value.gateway if value is not None else "")
            wanted = keys.PoolValue(str(pool), known, block_prefixlen(pool))
            changes: list[Put | Delete] = [user]
            if value is None:
                lost = Put(keys.settling_key(name, version), b"", self._directory.lease)
                changes += [Put(found.key, wire.encode(wanted)), Put(keys.POOLS_CHANGED, name.encode()), lost]
            elif (value.subnet, value.gateway or known) != (wanted.subnet, wanted.gateway):
                raise Conflict(
                    f"cannot keep the pool of {name} in the cluster: it has {value.subnet} with gateway"
                    f" {value.gateway or 'none'} now, not {pool} with {gateway or 'none'}; remove the network here"
                )
            elif value != wanted:
                changes.append(Put(found.key, wire.encode(wanted)))
            if self._directory.write([Is(found.key, found.revision)], changes):
                return
        raise _contended(name)

    def keep(self, name: str, block: IPNetwork) -> bool:
        """Return whether the block is this host's, also if the cluster had lost it. Raises: Unavailable."""
        for _ in range(_TRIES):
            found = self._etcd.get(keys.block_key(name, block))
            if found.revision:
                return owner_of(found) == self.host
            if self._directory.write([Is(found.key, 0)], [Put(found.key, wire.encode(keys.BlockValue(self.host)))]):
                return True
        raise _contended(name)

    def lend_again(self, name: str, address: IPAddress, host: str) -> None:
        """The cluster knows again that the host has the address from this one. Raises: Unavailable."""
        key = keys.lent_key(name, address)
        self._directory.write([Is(key, 0)], [Put(key, wire.encode(keys.LentValue(self.host, host, granted=True)))])

    def grant(self, asked: Entry, name: str, address: IPAddress, asker: str) -> None:
        """The host that asked has the address, which is of a block of this one. Raises: Unavailable."""
        held = self._etcd.get(keys.address_key(name, address))
        granted = keys.LentValue(self.host, asker, granted=True)
        changes = [
            Put(asked.key, wire.encode(granted)),
            Put(held.key, wire.encode(keys.AddressValue(asker, ""))),
        ]
        self._directory.write([Is(asked.key, asked.revision), Is(held.key, held.revision)], changes)

    def refuse(self, asked: Entry) -> None:
        """The host that asked knows that it cannot have the address. Raises: Unavailable."""
        self._directory.write([Is(asked.key, asked.revision)], [Delete(asked.key)])

    def own(self, entries: Iterable[Entry]) -> tuple[set[Part], dict[Part, set[str]]]:
        """Return which pools this host uses, and its blocks of each. entries: all below keys.POOL."""
        users: set[Part] = set()
        firsts: dict[Part, set[str]] = {}
        prefixlens: dict[Part, int] = {}
        for entry in entries:
            part = keys.pool_part_of(entry.key)
            if part is None:
                continue
            where = (part.network, part.version)
            if part.what == "pool":
                prefixlens[where] = wire.decode(entry.value, keys.PoolValue).block
            elif part.what == "host" and part.id == self.host:
                users.add(where)
            elif part.what == "block" and owner_of(entry) == self.host:
                firsts.setdefault(where, set()).add(part.id)
        blocks = {
            where: {f"{first}/{prefixlens[where]}" for first in found}
            for where, found in firsts.items()
            if where in prefixlens
        }
        return users, blocks

    def reserved(self, name: str, version: int) -> list[IPAddress]:
        """Return the addresses that stand in etcd as this host's, or are asked for by it. Raises: Unavailable."""
        held = {address for address, holder in self._held(name) if holder.host == self.host}
        for entry in self._etcd.list(keys.lent_prefix(name)).entries:
            if wire.decode(entry.value, keys.LentValue).host == self.host:
                held.add(ip_address(entry.key.rpartition("/")[2]))
        return [address for address in held if address.version == version]

    def owe(self) -> None:
        """What could not be told is told when etcd is there again."""
        self._directory.owes = True

    def is_lent(self, name: str, address: IPAddress) -> bool:
        """Tell whether another host has the address from this one, or etcd has lost what would say so.

        Raises: Unavailable.
        """
        if not self._etcd.get(keys.user_key(name, address.version, self.host)).revision:
            return True
        found = self._etcd.get(keys.lent_key(name, address))
        return bool(found.revision) and wire.decode(found.value, keys.LentValue).granted

    def _check_settled(self, name: str, version: int) -> None:
        if self._etcd.get(keys.settling_key(name, version)).revision:
            raise Unavailable(
                f"cannot give an address of {name}: etcd has lost its data, and not every host has said yet what is its"
                f" own; try again in {TTL_S} s"
            )

    def _ask(self, name: str, address: IPAddress, owner: str) -> None:
        """The owner of the block has given the address to this host."""
        key = keys.lent_key(name, address)
        silent = Unavailable(
            f"cannot give {address}: it is in a block of host {self._directory.name_of(owner)}, which does not answer;"
            " choose another address, or if that host is off for good: pynet cluster forget --off"
        )
        if not self._etcd.get(keys.alive_key(owner)).revision:
            raise silent
        asking = keys.LentValue(owner, self.host, granted=False)
        if not self._directory.write([Is(key, 0)], [Put(key, wire.encode(asking))]):
            raise self._in_use(name, address, owner)
        deadline = time.monotonic() + _GRANT_WAIT_S
        while True:
            found = self._etcd.get(key)
            if not found.revision:
                raise self._in_use(name, address, owner)
            if wire.decode(found.value, keys.LentValue).granted:
                return
            # Taken back only if it was not granted in the very moment.
            if time.monotonic() > deadline and self._directory.write([Is(key, found.revision)], [Delete(key)]):
                raise silent
            time.sleep(_GRANT_LOOK_S)

    def _in_use(self, name: str, address: IPAddress, host: str) -> Conflict:
        return Conflict(
            f"cannot give {address}: Address already in use on {name}, by"
            f" {'host ' + self._directory.name_of(host) if host else 'an --aux-address'}; choose another"
        )

    def _pool(self, name: str, version: int) -> tuple[Entry, keys.PoolValue]:
        found = self._etcd.get(keys.pool_key(name, version))
        if not found.revision:
            raise NotFound(f"cannot use the pool of {name}: the cluster does not know it; re-create the network")
        return found, wire.decode(found.value, keys.PoolValue)

    def _subnets(self) -> list[IPNetwork]:
        """Return the subnets of all pools."""
        parts = ((entry, keys.pool_part_of(entry.key)) for entry in self._etcd.list(keys.POOL).entries)
        return [
            ip_network(wire.decode(entry.value, keys.PoolValue).subnet)
            for entry, part in parts
            if part is not None and part.what == "pool"
        ]

    def _blocks(self, name: str, version: int) -> tuple[Entry, ...]:
        return self._etcd.list(keys.blocks_prefix(name, version)).entries

    def _held(self, name: str) -> list[tuple[IPAddress, keys.AddressValue]]:
        """Return the addresses that stand in etcd one by one."""
        return [
            (ip_address(entry.key.rpartition("/")[2]), wire.decode(entry.value, keys.AddressValue))
            for entry in self._etcd.list(keys.addresses_prefix(name)).entries
        ]


def _contended(name: str) -> Unavailable:
    return Unavailable(f"cannot have addresses of {name}: others change them at the same time; try again")
