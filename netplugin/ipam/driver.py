"""The verbs of IpamDriver. Pools and addresses are records without kernel objects: a verb saves one and has done.

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from ipaddress import IPv6Network
from typing import Protocol

from netplugin.cluster.pools import SharedPools
from netplugin.ipam import wire
from netplugin.ipam.ledger import Ledger
from netplugin.ipam.pools import IPNetwork, PoolConfig, PoolRange, choose_pool, is_inside, overlap
from netplugin.ipam.records import Address, Book, Installation, Pool, Role
from netplugin.ipam.sharing import Sharing
from netplugin.kinds import ADDRESSES, ENDPOINTS, INSTALLATION
from pluginkit import caller
from pluginkit.errors import BadRequest, Conflict, Exhausted, NotFound
from pluginkit.locks import Locks
from pluginkit.server import Method
from pluginkit.store import Store

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
        self._ledger = Ledger(store)
        self._host = host
        self._config = config
        self._pool_locks = Locks()
        self._locks = Locks()
        # Which engine this run of pynet gave a pool to.
        self._asked_by: dict[str, str] = {}
        self._reclaim_from = time.monotonic() + _RECLAIM_AFTER_S
        self._sharing: Sharing | None = None

    def share(self, pools: SharedPools) -> Sharing:
        """Pools with a name are the cluster's from now on; return what compares them with it."""
        self._sharing = Sharing(self._ledger, pools, self._opened, partial(self._pool_locks.hold, _ALL_POOLS))
        return self._sharing

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
                pool_id, pool = self._give(wish, version)
            except (Conflict, Exhausted):
                if not self._release_dead(wish, version):
                    raise
                pool_id, pool = self._give(wish, version)
        return wire.PoolAnswer(pool_id, pool.subnet)

    def release_pool(self, request: wire.ReleasePoolRequest) -> None:
        """The pool is free, with all addresses that are left in it; if it was given several times, once less is."""
        with self._pool_locks.hold(_ALL_POOLS):
            pool = self._ledger.pool(request.PoolID)
            if pool is not None and pool.references > 1:
                self._ledger.save_pool(request.PoolID, replace(pool, references=pool.references - 1))
            elif pool is not None:
                self._drop_pool(request.PoolID, pool)

    def request_address(self, request: wire.AddressRequest) -> wire.AddressAnswer:
        """The address is the caller's: the one asked for, or the owner's former one, or the next in turn.

        Raises: BadRequest; NotFound: the pool; Conflict: the address is held; Exhausted: all are.
        """
        pool = self._ledger.pool(request.PoolID)
        if pool is None:
            raise _unknown(request.PoolID)
        asked = wire.parse_address(request, pool)
        # The engine asks for auxiliary addresses before it creates the network, and says nothing else of them.
        is_aux = bool(asked.address) and not asked.is_gateway and not asked.owner and not self._ledger.network_of(pool)
        # The cluster is asked before the book is locked: it may have to ask for one of another host's at the same time.
        with self._allowed(pool, asked, aux=is_aux) as wish, self._opened(request.PoolID) as opened:
            if opened is None:
                raise _unknown(request.PoolID)
            pool, book = opened
            if wish.address is None:
                number, turn = self._choose(request.PoolID, pool, book, wish)
            else:
                number, turn = book.number(wish.address), 0
                self._check_free(request.PoolID, pool, book, number, wish)
            role: Role = "gateway" if wish.is_gateway else "aux" if is_aux else "endpoint"
            before = book.entry(request.PoolID, number)
            given = Address(
                address=str(pool.network[number]),
                role=role,
                owner=wish.owner,
                turn=turn or (before.turn if before else 0),
                held=True,
            )
            self._ledger.put(request.PoolID, book, given, asked_by=caller.current())
        return wire.AddressAnswer(f"{pool.network[number]}/{pool.network.prefixlen}")

    def release_address(self, request: wire.ReleaseAddressRequest) -> None:
        """The address is free, and remembered as its owner's. Of others' pools and addresses nothing has changed."""
        address = wire.parse_ip(request.Address)
        with self._opened(request.PoolID) as opened:
            if opened is None or address not in opened[0].network:
                return
            pool, book = opened
            record = book.entry(request.PoolID, book.number(address))
            if record is not None and record.held and record.role != "lent":
                self._ledger.release(request.PoolID, book, record)
                if self._sharing is not None and pool.name and record.role == "endpoint":
                    self._sharing.released(request.PoolID, pool, book, address)

    @contextmanager
    def _allowed(self, pool: Pool, wish: wire.AddressWish, *, aux: bool) -> Iterator[wire.AddressWish]:
        """Inside the block the address is this host's to give."""
        if not pool.name:
            yield wish
            return
        with self._cluster(pool.name).asked(pool, wish, aux=aux) as answered:
            yield answered

    def _cluster(self, name: str) -> Sharing:
        if self._sharing is None:
            raise BadRequest(
                f"cannot give addresses of {name}: pynet runs without a cluster; set PYNET_CLUSTER=etcd://HOST, or"
                " leave --ipam-opt name out"
            )
        return self._sharing

    def _give(self, wish: Pool, version: int) -> tuple[str, Pool]:
        """Return the pool, which for one with a name is the cluster's."""
        if not wish.name:
            return self._give_pool(wish, version)
        cluster = self._cluster(wish.name)
        pools = self._ledger.pools()
        shared = cluster.open(wish, version, lambda taken: self._unused(version, pools, taken))
        try:
            return self._give_pool(shared, version)
        except Exception:
            cluster.close(wish.name, version)
            raise

    def _give_pool(self, wish: Pool, version: int) -> tuple[str, Pool]:
        pools = self._ledger.pools()
        if not wish.subnet:
            wish = replace(wish, subnet=str(self._unused(version, pools)))
        for pool_id, pool in pools.items():
            if pool.address_space == wire.GLOBAL and replace(pool, references=1) == wish:
                self._ledger.save_pool(pool_id, replace(pool, references=pool.references + 1))
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
        self._ledger.save_pool(pool_id, wish)
        self._asked_by[pool_id] = caller.current()
        return pool_id, wish

    def _unused(self, version: int, pools: dict[str, Pool], elsewhere: Sequence[IPNetwork] = ()) -> IPNetwork:
        ranges = self._ranges(version)
        taken = [*self._host.networks(), *(pool.network for pool in pools.values()), *elsewhere]
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
        row = self._ledger.store.get(INSTALLATION, _THIS)
        if row is not None and row.current is not None:
            return row.current.ula
        drawn = IPv6Network((int(_ULA.network_address) | secrets.randbits(40) << 80, 48))
        self._ledger.save(INSTALLATION, _THIS, Installation(drawn))
        return drawn

    def _release_dead(self, wish: Pool, version: int) -> bool:
        """Pools in the way of `wish` whose release was missed are released; return whether there was one."""
        in_use = self._host.networks()
        bases = [pool_range.base for pool_range in self._ranges(version)]
        dead = [
            (pool_id, pool)
            for pool_id, pool in self._ledger.pools().items()
            if (
                (pool.clashes(wish) if wish.subnet else any(overlap(pool.network, base) for base in bases))
                or (pool.name and (pool.name, pool.network.version) == (wish.name, version))
            )
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
        if self._ledger.network_of(pool) is not None or any(is_inside(one, pool.network) for one in in_use):
            return False
        records = [row.current for row in self._ledger.store.rows(ADDRESSES, parent=pool_id) if not row.pending]
        return not any(record and record.held and record.role not in ("gateway", "lent") for record in records)

    def _choose(self, pool_id: str, pool: Pool, book: Book, wish: wire.AddressWish) -> tuple[int, int]:
        """Return a free address, and which turn it is; 0: it is not given in turn."""
        former = book.former(pool_id, wish.owner)
        if former is not None and pool.is_own(pool.network[former]):
            return former, 0
        number, turn = (book.first_free(pool.ranges), 0) if wish.is_gateway else book.next_free(pool_id, pool.ranges)
        if number is None and self._reclaim(pool_id, pool, book):
            number, turn = book.next_free(pool_id, pool.ranges)
        if number is None and pool.name:
            pool = self._cluster(pool.name).take(pool_id, pool, book)
            number, turn = book.next_free(pool_id, pool.ranges)
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
        if holder == pool_id and self._is_leaked(pool, book, pool_id, number, record, self._ledger.network_of(pool)):
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
        return not self._ledger.store.find(ENDPOINTS, network_id, f"address{pool.network.version}", interface)

    def _reclaim(self, pool_id: str, pool: Pool, book: Book) -> bool:
        """Leaked addresses of a full pool are free; return whether there were any."""
        network_id = self._ledger.network_of(pool)
        if network_id is None or time.monotonic() < self._reclaim_from:
            return False
        # A pool that is really full would otherwise be searched for each request.
        self._reclaim_from = time.monotonic() + _RECLAIM_AFTER_S
        leaked = [
            record
            for number, record in book.held(pool_id, "endpoint")
            if pool.is_own(pool.network[number]) and self._is_leaked(pool, book, pool_id, number, record, network_id)
        ]
        for record in leaked:
            log.warning("address %s of pool %s is released: no endpoint has it", record.address, pool_id)
            self._ledger.release(pool_id, book, record)
        return bool(leaked)

    @contextmanager
    def _opened(self, pool_id: str) -> Iterator[tuple[Pool, Book] | None]:
        """Inside the block the pool's subnet is locked; give the pool and its book, or None if it is not known."""
        pool = self._ledger.pool(pool_id)
        if pool is None:
            yield None
            return
        with self._locks.hold(pool.book_key):
            # It may have been released while we waited.
            pool = self._ledger.pool(pool_id)
            yield None if pool is None else (pool, self._ledger.book(pool))

    def _drop_pool(self, pool_id: str, pool: Pool) -> None:
        with self._locks.hold(pool.book_key):
            self._ledger.drop_pool(pool_id, pool)
            self._asked_by.pop(pool_id, None)
        if pool.name and self._sharing is not None:
            self._sharing.close(pool.name, pool.network.version)


def _unknown(pool_id: str) -> NotFound:
    return NotFound(f"cannot give an address of pool {pool_id}: it is not known; re-create the network")


def _may_be_lost(asked_by: str | None) -> bool:
    """Tell whether pynet or the engine has died since it gave something; asked_by: None for an earlier run of pynet."""
    return asked_by is None or not (asked_by == caller.current() or caller.is_running(asked_by))
