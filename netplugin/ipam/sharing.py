"""Pools that hosts share: what the verbs ask of the cluster, and how records and cluster agree after a while apart.

The records are the outbox: whatever could not be told is found by comparing them with what stands in etcd.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

from netplugin.cluster import keys
from netplugin.cluster.etcd import Entry
from netplugin.cluster.pools import SharedPools
from netplugin.ipam.blocks import block_prefixlen, block_ranges
from netplugin.ipam.ledger import Ledger
from netplugin.ipam.pools import IPAddress, IPNetwork
from netplugin.ipam.records import Address, Book, Pool, Role
from netplugin.ipam.wire import AddressWish
from netplugin.kinds import ADDRESSES
from netplugin.records import Network
from pluginkit.errors import BadRequest, Conflict, Exhausted, NotFound, Unavailable
from pluginkit.log import failure

log = logging.getLogger(__name__)

Opened = Callable[[str], AbstractContextManager[tuple[Pool, Book] | None]]
Lents = Mapping[str, Mapping[IPAddress, tuple[Entry, keys.LentValue]]]


class Sharing:
    """The shared pools of one host. opened, pools_locked: the locks of the verbs, by a pool's ID and for all pools."""

    def __init__(
        self,
        ledger: Ledger,
        cluster: SharedPools,
        opened: Opened,
        pools_locked: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._ledger, self._cluster, self._opened, self._pools_locked = ledger, cluster, opened, pools_locked
        # What is reserved in etcd for a verb under way is on no record yet.
        self._asking: set[tuple[str, IPAddress]] = set()
        # Whether no address stands in etcd as this host's that is not; false after each start, and after a failure.
        self._settled = False
        self._lost: set[tuple[str, int]] = set()

    # --- for the verbs of IpamDriver ---

    def open(self, wish: Pool, version: int, choose: Callable[[Sequence[IPNetwork]], IPNetwork]) -> Pool:
        """Return the pool with the subnet that the cluster has for it. Raises: as for SharedPools.open."""
        known = self.pool_of(wish.name, version)
        if known is not None:
            raise Conflict(
                f"cannot give a pool for {wish.name}: this host has one, {known}; remove the network that has it, or"
                f" run: pynet release-pool {known}",
                holder=known,
            )
        return replace(wish, subnet=self._cluster.open(wish.name, version, wish.subnet, choose))

    def close(self, name: str, version: int) -> None:
        """The cluster knows, or will know, that this host does not use the pool."""
        self._tell(lambda: self._cluster.close(name, version))

    @contextmanager
    def asked(self, pool: Pool, wish: AddressWish, *, aux: bool) -> Iterator[AddressWish]:
        """Inside the block the address is this host's to give; give the wish as the cluster answered it.

        Raises: Unavailable; Conflict: another host has the address, or the cluster another gateway.
        """
        if wish.is_gateway:
            yield replace(wish, address=self._cluster.gateway(pool.name, pool.network.version, wish.address))
        elif wish.address is None:
            yield wish
        elif pool.is_own(wish.address) and not aux:
            # Another host may have given it back just now.
            self.hear(pool.name, wish.address, Entry("", b"", 0), None)
            yield wish
        else:
            asking = (pool.name, wish.address)
            self._asking.add(asking)
            try:
                self._cluster.reserve(pool.name, wish.address, everybody=aux)
                yield wish
            finally:
                self._asking.discard(asking)

    def take(self, pool_id: str, pool: Pool, book: Book) -> Pool:
        """Return the pool with one more block. Its book is locked.

        Raises: Unavailable; Exhausted: every block is a host's.
        """
        taken = self._cluster.take(pool.name, pool.network.version)
        larger = replace(pool, blocks=(*pool.blocks, str(taken.block)))
        for address, host in taken.given:
            if book.holder(book.number(address)) is None:
                self._hold(pool_id, book, address, "lent" if host else "aux", host)
        self._ledger.save_pool(pool_id, larger)
        return larger

    def released(self, pool_id: str, pool: Pool, book: Book, address: IPAddress) -> None:
        """The cluster knows, or will know, that the address is free. Its book is locked."""
        if not pool.is_own(address):
            self._tell(lambda: self._cluster.free(pool.name, address))
            return
        block = next(block for block in map(ip_network, pool.blocks) if address in block)
        others = tuple(one for one in pool.blocks if one != str(block))
        # With as much room in the others the next container does not take it at once again.
        if not book.count(block_ranges(pool.network, [str(block)])) and self._is_roomy(pool, book, others):
            self._ledger.save_pool(pool_id, replace(pool, blocks=others))
            self._tell(lambda: self._cluster.give_back(pool.name, block))

    # --- for the verbs of NetworkDriver ---

    def pool_of(self, name: str, version: int) -> str | None:
        """Return the ID of this host's pool of that name."""
        found = (pool_id for pool_id, pool in self._shared() if (pool.name, pool.network.version) == (name, version))
        return next(found, None)

    def is_shared(self, network: Network) -> bool:
        """Tell whether the addresses of the network come from the cluster.

        Raises: BadRequest: they come from the pool of another network.
        """
        subnets = {str(subnet.pool) for subnet in network.subnets}
        names = {pool.name for _, pool in self._shared() if pool.subnet in subnets}
        if names - {network.options.name}:
            raise BadRequest(
                f"cannot create network {network.options.name}: its addresses are those of {', '.join(sorted(names))};"
                " the names in --ipam-opt name and -o name must be the same"
            )
        return bool(names)

    def grants(self, name: str, interface: IPv4Interface | IPv6Interface) -> bool:
        """Tell whether the address was given here out of a shared pool, so that no other host can have it."""
        pool_id = self.pool_of(name, interface.version)
        row = self._ledger.store.get(ADDRESSES, f"{pool_id}/{interface.ip}") if pool_id else None
        return row is not None and not row.pending and row.current is not None and _is_endpoint(row.current)

    def reserves(self, name: str, interface: IPv4Interface | IPv6Interface) -> bool:
        """Tell whether the address is held, and only by what stands in etcd: it is in no block of this host."""
        pool = self._ledger.pool(self.pool_of(name, interface.version) or "")
        return pool is not None and not pool.is_own(interface.ip) and self.grants(name, interface)

    # --- for the agent ---

    def doubt(self) -> None:
        """Addresses may stand in etcd as this host's that are not: `settle` looks for them."""
        self._settled = False

    def restore(self, entries: Iterable[Entry]) -> None:
        """What stands in etcd of this host's pools and blocks is as the records say. entries: all below keys.POOL.

        Raises: Unavailable.
        """
        users, blocks = self._cluster.own(entries)
        for pool_id, pool in self._shared():
            part = (pool.name, pool.network.version)
            with self._opened(pool_id) as opened:
                if opened is not None:
                    self._restore(pool_id, *opened, is_known=part in users, there=blocks.get(part, set()))
            users.discard(part)
        for name, version in users:
            # One that is just being opened is on record once the lock is free.
            with self._pools_locked():
                if self.pool_of(name, version) is None:
                    self._cluster.close(name, version)

    def settle(self, lents: Lents) -> None:
        """Addresses that hosts have of others' blocks are on record, here and in etcd. lents: all, by network.

        Raises: Unavailable.
        """
        for pool_id, pool in self._shared():
            there = lents.get(pool.name, {})
            with self._opened(pool_id) as opened:
                if opened is not None:
                    self._settle_lent(pool_id, *opened, there)
            for address, (entry, value) in there.items():
                if value.owner == self._cluster.host and address.version == pool.network.version:
                    self.hear(pool.name, address, entry, value)
        self._lost.clear()
        if not self._settled:
            self._settled = True
            self._free_leaked()

    def hear(self, name: str, address: IPAddress, entry: Entry, value: keys.LentValue | None) -> None:
        """A host has, wants or had (None) an address of a block of this one: that is on record, and answered."""
        pool_id = self.pool_of(name, address.version)
        if pool_id is None or (value is not None and value.owner != self._cluster.host):
            return
        with self._opened(pool_id) as opened:
            if opened is None:
                return
            pool, book = opened
            record = book.entry(pool_id, book.number(address))
            is_lent = record is not None and record.held and record.role == "lent"
            if record is not None and is_lent and not self._cluster.is_lent(name, address):
                self._ledger.release(pool_id, book, record)
            if value is None:
                return
            is_free = pool.is_own(address) and book.holder(book.number(address)) is None
            if is_free:
                # On record first: from here on it is not this host's to give, whatever is heard of the answer.
                self._hold(pool_id, book, address, "lent", value.host)
            if is_free and not value.granted:
                self._cluster.grant(entry, name, address, value.host)
            elif not value.granted:
                self._cluster.refuse(entry)

    def _restore(self, pool_id: str, pool: Pool, book: Book, *, is_known: bool, there: set[str]) -> None:
        if not is_known:
            gateways = [record.address for _, record in book.held(pool_id, "gateway")]
            try:
                self._cluster.restore(pool.name, pool.network, next(iter(gateways), ""))
            except Conflict as exc:
                # Its blocks may be others' now; what runs goes on.
                failure(log, exc)
                self._ledger.save_pool(pool_id, replace(pool, blocks=()))
                return
            self._lost.add((pool.name, pool.network.version))
        kept = []
        for block in pool.blocks:
            if block in there or self._cluster.keep(pool.name, ip_network(block)):
                kept.append(block)
            else:
                log.error("block %s of %s is another host's now: no address of it is given here", block, pool.name)
        for block in there - set(pool.blocks):
            self._cluster.give_back(pool.name, ip_network(block))
        now = replace(pool, blocks=tuple(kept))
        if now != pool:
            self._ledger.save_pool(pool_id, now)
        if not is_known:
            for _, record in book.held(pool_id, "lent"):
                self._cluster.lend_again(pool.name, ip_address(record.address), record.owner)
        if not kept and self._ledger.network_of(pool) is not None:
            # Before anybody asks: then there are addresses also when etcd is away.
            try:
                self.take(pool_id, now, book)
            except (Exhausted, NotFound, Unavailable) as exc:
                failure(log, exc)

    def _settle_lent(
        self, pool_id: str, pool: Pool, book: Book, there: Mapping[IPAddress, tuple[Entry, keys.LentValue]]
    ) -> None:
        """What is not lent any more can be given again."""
        if (pool.name, pool.network.version) in self._lost:
            return
        for _, record in book.held(pool_id, "lent"):
            address = ip_address(record.address)
            if address not in there and not self._cluster.is_lent(pool.name, address):
                self._ledger.release(pool_id, book, record)

    def _free_leaked(self) -> None:
        """Nothing stands in etcd as this host's that was reserved and never given, or given and not heard of again."""
        for pool_id, pool in self._shared():
            for address in self._cluster.reserved(pool.name, pool.network.version):
                with self._opened(pool_id) as opened:
                    if opened is None or (pool.name, address) in self._asking:
                        continue
                    _, book = opened
                    record = book.entry(pool_id, book.number(address))
                    if record is None or not record.held:
                        self._cluster.free(pool.name, address)

    def _is_roomy(self, pool: Pool, book: Book, blocks: Sequence[str]) -> bool:
        """Tell whether half a block's addresses are free in some blocks."""
        ranges = block_ranges(pool.network, blocks)
        size = 1 << (pool.network.max_prefixlen - block_prefixlen(pool.network))
        return sum(last + 1 - first for first, last in ranges) - book.count(ranges) >= size // 2 and bool(blocks)

    def _hold(self, pool_id: str, book: Book, address: IPAddress, role: Role, owner: str) -> None:
        before = book.entry(pool_id, book.number(address))
        turn = before.turn if before is not None else 0
        self._ledger.put(pool_id, book, Address(str(address), role, owner, turn, held=True))

    def _shared(self) -> list[tuple[str, Pool]]:
        return [(pool_id, pool) for pool_id, pool in self._ledger.pools().items() if pool.name]

    def _tell(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Unavailable as exc:
            failure(log, exc)
            self._settled = False
            self._cluster.owe()


def _is_endpoint(record: Address) -> bool:
    return record.held and record.role == "endpoint"
