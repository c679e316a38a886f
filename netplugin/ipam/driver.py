"""The verbs of IpamDriver. Pools and addresses are records without kernel objects: a verb saves one and has done.

A record is saved in two steps, intention and commit. An address is held if its record says so *and* no move of it is
under way: of a move that was cut short nobody was told, except a release, which nobody repeats; both leave it free.

What has been given and never arrives, because pynet or the engine died in between, stays held, but not for ever: an
address until its pool is released, or, on a network of pynet, until somebody wants it and no endpoint has it; a pool
until somebody wants it and nothing is there that could be its network (`_is_dead`).

Source: docs/protocol.md. dockerd does not repeat requests to a driver that remembers by itself, and one whose answer it
missed comes again without its body and is refused. So the same pool asked for twice means two networks, and is a
conflict; only in the global address space do the manager and the node of one swarm machine both ask for one network.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv6Network
from typing import Protocol, TypeVar

from netplugin.ipam import wire
from netplugin.ipam.pools import IPNetwork, PoolConfig, PoolRange, choose_pool, is_inside, overlap
from netplugin.ipam.records import Address, Book, Installation, Pool, Role
from netplugin.kinds import ADDRESSES, ENDPOINTS, INSTALLATION, NETWORKS, POOLS
from pluginkit import caller
from pluginkit.errors import Conflict, Exhausted, NotFound
from pluginkit.locks import Locks
from pluginkit.server import Method
from pluginkit.store import Kind, Store

R = TypeVar("R")
log = logging.getLogger(__name__)

_ALL_POOLS = "pools"
_THIS = "this"
_ULA = IPv6Network("fd00::/8")
# An address that was given just before pynet died can still become an endpoint, while dockerd repeats CreateEndpoint.
_RECLAIM_AFTER_S = 30.0


class Host(Protocol):
    """What the verbs ask of the machine."""

    def networks(self) -> frozenset[IPNetwork]:
        """Return the networks that the host already uses."""


class IpamDriver:
    """IpamDriver of one host. Address verbs lock their subnet; pool verbs lock the set of pools first."""

    def __init__(self, store: Store, host: Host, config: PoolConfig = PoolConfig()) -> None:  # noqa: B008
        """Interrupted moves of pools are over."""
        self._store = store
        self._host = host
        self._config = config
        self._pool_locks = Locks()
        self._locks = Locks()
        self._books: dict[str, Book] = {}
        # Which engine this run of pynet gave a pool to.
        self._asked_by: dict[str, str] = {}
        self._reclaim_from = time.monotonic() + _RECLAIM_AFTER_S
        for row in store.rows(POOLS):
            if row.pending and (row.current is None or row.next is not None):
                store.abandon(POOLS, row.id)
            elif row.pending:
                self._drop_records(row.id)

    def methods(self) -> tuple[Method, ...]:
        """Return the table from which the server is built."""
        return (
            Method("IpamDriver.GetCapabilities", None, wire.Capabilities),
            Method("IpamDriver.GetDefaultAddressSpaces", None, wire.AddressSpaces),
            Method("IpamDriver.RequestPool", wire.PoolRequest, self.request_pool),
            Method("IpamDriver.ReleasePool", wire.ReleasePoolRequest, self.release_pool),
            Method("IpamDriver.RequestAddress", wire.AddressRequest, self.request_address),
            Method("IpamDriver.ReleaseAddress", wire.ReleaseAddressRequest, self.release_address),
        )

    def request_pool(self, request: wire.PoolRequest) -> wire.PoolAnswer:
        """The pool is the caller's: the one asked for, or one that overlaps with nothing known.

        Raises: BadRequest; Conflict: another pool is in the way; Exhausted: no pool is left.
        """
        wish = wire.parse_pool(request)
        version = 6 if request.V6 else 4
        with self._pool_locks.hold(_ALL_POOLS):
            try:
                pool_id, pool = self._give_pool(wish, version)
            except (Conflict, Exhausted):
                if not self._release_dead(wish, version):
                    raise
                pool_id, pool = self._give_pool(wish, version)
        return wire.PoolAnswer(pool_id, pool.subnet)

    def release_pool(self, request: wire.ReleasePoolRequest) -> None:
        """The pool is free, with all addresses that are left in it; if it was given several times, once less is."""
        with self._pool_locks.hold(_ALL_POOLS):
            pool = self._pool(request.PoolID)
            if pool is not None and pool.references > 1:
                self._save(POOLS, request.PoolID, replace(pool, references=pool.references - 1))
            elif pool is not None:
                self._drop_pool(request.PoolID, pool)

    def request_address(self, request: wire.AddressRequest) -> wire.AddressAnswer:
        """The address is the caller's: the one asked for, or the owner's former one, or the next in turn.

        Raises: BadRequest; NotFound: the pool; Conflict: the address is held; Exhausted: all are.
        """
        with self._opened(request.PoolID) as opened:
            if opened is None:
                raise NotFound(
                    f"cannot give an address of pool {request.PoolID}: it is not known; re-create the network"
                )
            pool, book = opened
            wish = wire.parse_address(request, pool)
            if wish.address is None:
                number, turn = self._choose(request.PoolID, pool, book, wish)
            else:
                number, turn = book.number(wish.address), 0
                self._check_free(request.PoolID, pool, book, number, wish)
            self._give(request.PoolID, pool, book, number, turn, wish)
        return wire.AddressAnswer(f"{pool.network[number]}/{pool.network.prefixlen}")

    def release_address(self, request: wire.ReleaseAddressRequest) -> None:
        """The address is free, and remembered as its owner's. Of others' pools and addresses nothing has changed."""
        address = wire.parse_ip(request.Address)
        with self._opened(request.PoolID) as opened:
            if opened is None or address not in opened[0].network:
                return
            _, book = opened
            record = book.entry(request.PoolID, book.number(address))
            if record is not None and record.held:
                self._release(request.PoolID, book, record)

    def _give_pool(self, wish: Pool, version: int) -> tuple[str, Pool]:
        pools = self._pools()
        if not wish.subnet:
            wish = replace(wish, subnet=str(self._unused(version, pools)))
        for pool_id, pool in pools.items():
            if pool.address_space == wire.GLOBAL and replace(pool, references=1) == wish:
                self._save(POOLS, pool_id, replace(pool, references=pool.references + 1))
                return pool_id, pool
            if pool.clashes(wish):
                raise Conflict(
                    f"cannot give the pool {wish.subnet}: Pool overlaps with {pool.subnet}, given as {pool_id};"
                    " choose another --subnet, or remove the network that has it, or run: pynet release-pool"
                    f" {pool_id}",
                    holder=pool_id,
                )
        # The random part keeps a late message about an earlier life of the pool from reaching a later one.
        pool_id = "/".join(part for part in (wish.book_key, wish.ip_range, secrets.token_hex(4)) if part)
        self._save(POOLS, pool_id, wish)
        self._asked_by[pool_id] = caller.current()
        return pool_id, wish

    def _unused(self, version: int, pools: dict[str, Pool]) -> IPNetwork:
        ranges = self._ranges(version)
        taken = [*self._host.networks(), *(pool.network for pool in pools.values())]
        network = choose_pool(ranges, taken)
        if network is None:
            bases = ", ".join(str(one.base) for one in ranges)
            raise Exhausted(
                f"cannot give a pool: all of {bases} is given, or routed elsewhere by this host; remove a network, or"
                " choose a --subnet"
            )
        return network

    def _ranges(self, version: int) -> tuple[PoolRange, ...]:
        ranges = self._config.of_version(version)
        return ranges if ranges or version == 4 else (PoolRange(self._ula(), 64),)

    def _ula(self) -> IPv6Network:
        """Return the /48 of this installation. Source: RFC 4193 section 3.2.2: 40 random bits."""
        row = self._store.get(INSTALLATION, _THIS)
        if row is not None and row.current is not None:
            return row.current.ula
        drawn = IPv6Network((int(_ULA.network_address) | secrets.randbits(40) << 80, 48))
        self._save(INSTALLATION, _THIS, Installation(drawn))
        return drawn

    def _release_dead(self, wish: Pool, version: int) -> bool:
        """Pools in the way of `wish` whose release was missed are released; return whether there was one."""
        in_use = self._host.networks()
        bases = [pool_range.base for pool_range in self._ranges(version)]
        dead = [
            (pool_id, pool)
            for pool_id, pool in self._pools().items()
            if (pool.clashes(wish) if wish.subnet else any(overlap(pool.network, base) for base in bases))
            and self._is_dead(pool_id, pool, in_use)
        ]
        for pool_id, pool in dead:
            log.warning("pool %s is released: its network is nowhere to be seen", pool_id)
            self._drop_pool(pool_id, pool)
        return bool(dead)

    def _is_dead(self, pool_id: str, pool: Pool, in_use: frozenset[IPNetwork]) -> bool:
        """Tell whether the release was missed: possible only since pynet or the engine died, and no sign is against it.

        Signs of life: a network of pynet; a route or an address of the host inside; an address held for more than a
        gateway. Without any, a network of another driver is idle at most, and its PoolID is refused from then on.
        """
        if not _may_be_lost(self._asked_by.get(pool_id)):
            return False
        if self._network_of(pool) is not None or any(is_inside(one, pool.network) for one in in_use):
            return False
        records = [row.current for row in self._store.rows(ADDRESSES, parent=pool_id) if not row.pending]
        return not any(record and record.held and record.role != "gateway" for record in records)

    def _choose(self, pool_id: str, pool: Pool, book: Book, wish: wire.AddressWish) -> tuple[int, int]:
        """Return a free address, and which turn it is; 0: it is not given in turn."""
        first, last = pool.choices
        former = book.former(pool_id, wish.owner)
        if former is not None:
            return former, 0
        number, turn = (book.first_free(first, last), 0) if wish.is_gateway else book.next_free(pool_id, first, last)
        if number is None and self._reclaim(pool_id, pool, book):
            number, turn = book.next_free(pool_id, first, last)
        if number is None:
            raise Exhausted(
                f"cannot give an address: no available IPv{pool.network.version} addresses in"
                f" {pool.ip_range or pool.subnet}; remove a container or use a larger --subnet"
            )
        return number, turn

    def _check_free(self, pool_id: str, pool: Pool, book: Book, number: int, wish: wire.AddressWish) -> None:
        """The address can be given: nobody holds it, or who asks now, or an endpoint that is no more.

        Raises: Conflict.
        """
        holder = book.holder(number)
        record = book.entry(holder, number) if holder is not None else None
        if holder is None or record is None:
            return
        is_repeat = (wish.is_gateway and record.role == "gateway") or (wish.owner and wish.owner == record.owner)
        if holder == pool_id and (is_repeat or pool.address_space == wire.GLOBAL):
            return
        if holder == pool_id and self._is_leaked(pool, book, pool_id, number, record, self._network_of(pool)):
            return
        raise Conflict(
            f"cannot give {record.address}: Address already in use, as {record.role} {record.owner}".rstrip()
            + f" of pool {holder}; choose another or remove what has it",
            holder=holder,
        )

    def _is_leaked(
        self, pool: Pool, book: Book, pool_id: str, number: int, record: Address, network_id: str | None
    ) -> bool:
        """Tell whether an address was given before pynet or the engine died, and its network has no such endpoint."""
        if record.role != "endpoint" or network_id is None or not _may_be_lost(book.asked_by(pool_id, number)):
            return False
        interface = f"{record.address}/{pool.network.prefixlen}"
        return not self._store.find(ENDPOINTS, network_id, f"address{pool.network.version}", interface)

    def _reclaim(self, pool_id: str, pool: Pool, book: Book) -> bool:
        """Leaked addresses of a full pool are free; return whether there were any."""
        network_id = self._network_of(pool)
        if network_id is None or time.monotonic() < self._reclaim_from:
            return False
        # A pool that is really full would otherwise be searched for each request.
        self._reclaim_from = time.monotonic() + _RECLAIM_AFTER_S
        leaked = [
            record
            for number, record in book.endpoints(pool_id)
            if self._is_leaked(pool, book, pool_id, number, record, network_id)
        ]
        for record in leaked:
            log.warning("address %s of pool %s is released: no endpoint has it", record.address, pool_id)
            self._release(pool_id, book, record)
        return bool(leaked)

    def _give(self, pool_id: str, pool: Pool, book: Book, number: int, turn: int, wish: wire.AddressWish) -> None:
        before = book.entry(pool_id, number)
        role: Role = "gateway" if wish.is_gateway else "endpoint"
        # The engine asks for auxiliary addresses before it creates the network, and says nothing else of them.
        if role == "endpoint" and wish.address is not None and not wish.owner and self._network_of(pool) is None:
            role = "aux"
        record = Address(
            address=str(pool.network[number]),
            role=role,
            owner=wish.owner,
            turn=turn or (before.turn if before else 0),
            held=True,
        )
        self._save(ADDRESSES, f"{pool_id}/{record.address}", record, parent=pool_id)
        book.put(pool_id, record, asked_by=caller.current())

    def _release(self, pool_id: str, book: Book, record: Address) -> None:
        released = replace(record, held=False)
        self._save(ADDRESSES, f"{pool_id}/{record.address}", released, parent=pool_id)
        book.put(pool_id, released)
        surplus = book.surplus(pool_id)
        if surplus is not None and (oldest := book.entry(pool_id, surplus)) is not None:
            self._forget_record(f"{pool_id}/{oldest.address}", pool_id)
            book.forget(pool_id, surplus)

    def _network_of(self, pool: Pool) -> str | None:
        """Return the ID of the network of pynet that has the pool."""
        for row in self._store.rows(NETWORKS):
            for subnet in row.current.subnets if row.current is not None else ():
                if (subnet.address_space, subnet.pool) == (pool.address_space, pool.network):
                    return row.id
        return None

    def _pool(self, pool_id: str) -> Pool | None:
        row = self._store.get(POOLS, pool_id)
        return row.current if row is not None else None

    def _pools(self) -> dict[str, Pool]:
        return {row.id: row.current for row in self._store.rows(POOLS) if row.current is not None}

    @contextmanager
    def _opened(self, pool_id: str) -> Iterator[tuple[Pool, Book] | None]:
        """Inside the block the pool's subnet is locked; give the pool and its book, or None if it is not known."""
        pool = self._pool(pool_id)
        if pool is None:
            yield None
            return
        with self._locks.hold(pool.book_key):
            # It may have been released while we waited.
            pool = self._pool(pool_id)
            yield None if pool is None else (pool, self._book(pool))

    def _book(self, pool: Pool) -> Book:
        """Return the book of the pool's subnet, read from the records if this is the first time."""
        book = self._books.get(pool.book_key)
        if book is None:
            book = Book(pool.network)
            same = [pool_id for pool_id, other in self._pools().items() if other.book_key == pool.book_key]
            for pool_id in same:
                for record in sorted(self._settled(pool_id), key=lambda record: record.turn):
                    book.put(pool_id, record)
            self._books[pool.book_key] = book
        return book

    def _settled(self, pool_id: str) -> Iterator[Address]:
        """Yield the addresses of a pool; those whose move was cut short are free."""
        for row in self._store.rows(ADDRESSES, parent=pool_id):
            if row.current is None:
                self._store.abandon(ADDRESSES, row.id)
            elif row.pending:
                released = replace(row.current, held=False)
                self._save(ADDRESSES, row.id, released, parent=pool_id)
                yield released
            else:
                yield row.current

    def _drop_pool(self, pool_id: str, pool: Pool) -> None:
        with self._locks.hold(pool.book_key):
            self._store.intend(POOLS, pool_id, "", None)
            self._drop_records(pool_id)
            book = self._books.get(pool.book_key)
            if book is not None and not book.drop(pool_id):
                del self._books[pool.book_key]
            self._asked_by.pop(pool_id, None)

    def _drop_records(self, pool_id: str) -> None:
        """Nothing is left of a pool whose deletion is intended."""
        for row in self._store.rows(ADDRESSES, parent=pool_id):
            self._forget_record(row.id, pool_id)
        self._store.commit(POOLS, pool_id)

    def _forget_record(self, row_id: str, pool_id: str) -> None:
        # Without fsync: what a power cut brings back is a free address, or one of a pool that is about to go.
        kind = replace(ADDRESSES, durable=False)
        self._store.intend(kind, row_id, pool_id, None)
        self._store.commit(kind, row_id)

    def _save(self, kind: Kind[R], row_id: str, record: R, parent: str = "") -> None:
        """The record is on disk for good."""
        # One fsync is enough: that of the commit writes the intention too, since both are in one log.
        self._store.intend(replace(kind, durable=False), row_id, parent, record)
        self._store.commit(kind, row_id)


def _may_be_lost(asked_by: str | None) -> bool:
    """Tell whether pynet or the engine has died since it gave something; asked_by: None for an earlier run of pynet."""
    return asked_by is None or not (asked_by == caller.current() or caller.is_running(asked_by))
