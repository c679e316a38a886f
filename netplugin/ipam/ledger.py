"""The records of pools and addresses, each with the book of its subnet. Whoever calls holds the locks.

A record is saved in two steps, intention and commit. An address is held if its record says so *and* no move of it is
under way: of a move that was cut short nobody was told, except a release, which nobody repeats; both leave it free.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from netplugin.ipam.records import Address, Book, Pool
from netplugin.kinds import ADDRESSES, NETWORKS, POOLS
from pluginkit.store import Kind, Store

R = TypeVar("R")


class Ledger:
    """What was given, on disk and in memory."""

    def __init__(self, store: Store) -> None:
        """Interrupted moves of pools are over."""
        self.store = store
        self._books: dict[str, Book] = {}
        for row in store.rows(POOLS):
            if row.pending and (row.current is None or row.next is not None):
                store.abandon(POOLS, row.id)
            elif row.pending:
                self._drop_records(row.id)

    def pool(self, pool_id: str) -> Pool | None:
        """Return a pool."""
        row = self.store.get(POOLS, pool_id)
        return row.current if row is not None else None

    def pools(self) -> dict[str, Pool]:
        """Return all pools."""
        return {row.id: row.current for row in self.store.rows(POOLS) if row.current is not None}

    def network_of(self, pool: Pool) -> str | None:
        """Return the ID of the network of pynet that has the pool."""
        for row in self.store.rows(NETWORKS):
            for subnet in row.current.subnets if row.current is not None else ():
                if (subnet.address_space, subnet.pool) == (pool.address_space, pool.network):
                    return row.id
        return None

    def book(self, pool: Pool) -> Book:
        """Return the book of the pool's subnet, read from the records if this is the first time."""
        book = self._books.get(pool.book_key)
        if book is None:
            book = Book(pool.network)
            same = [pool_id for pool_id, other in self.pools().items() if other.book_key == pool.book_key]
            for pool_id in same:
                for record in sorted(self._settled(pool_id), key=lambda record: record.turn):
                    book.put(pool_id, record)
            self._books[pool.book_key] = book
        return book

    def save_pool(self, pool_id: str, pool: Pool) -> None:
        """The pool is as given."""
        self.save(POOLS, pool_id, pool)

    def drop_pool(self, pool_id: str, pool: Pool) -> None:
        """Nothing is left of the pool."""
        self.store.intend(POOLS, pool_id, "", None)
        self._drop_records(pool_id)
        book = self._books.get(pool.book_key)
        if book is not None and not book.drop(pool_id):
            del self._books[pool.book_key]

    def put(self, pool_id: str, book: Book, record: Address, asked_by: str | None = None) -> None:
        """The address is as the record says."""
        self.save(ADDRESSES, f"{pool_id}/{record.address}", record, parent=pool_id)
        book.put(pool_id, record, asked_by)

    def release(self, pool_id: str, book: Book, record: Address) -> None:
        """The address is free, and remembered as its owner's."""
        self.put(pool_id, book, replace(record, held=False))
        surplus = book.surplus(pool_id)
        if surplus is not None and (oldest := book.entry(pool_id, surplus)) is not None:
            self._forget_record(f"{pool_id}/{oldest.address}", pool_id)
            book.forget(pool_id, surplus)

    def save(self, kind: Kind[R], row_id: str, record: R, parent: str = "") -> None:
        """The record is on disk for good."""
        # One fsync is enough: that of the commit writes the intention too, since both are in one log.
        self.store.intend(replace(kind, durable=False), row_id, parent, record)
        self.store.commit(kind, row_id)

    def _settled(self, pool_id: str) -> Iterator[Address]:
        """Yield the addresses of a pool; those whose move was cut short are free."""
        for row in self.store.rows(ADDRESSES, parent=pool_id):
            if row.current is None:
                self.store.abandon(ADDRESSES, row.id)
            elif row.pending:
                released = replace(row.current, held=False)
                self.save(ADDRESSES, row.id, released, parent=pool_id)
                yield released
            else:
                yield row.current

    def _drop_records(self, pool_id: str) -> None:
        """Nothing is left of a pool whose deletion is intended."""
        for row in self.store.rows(ADDRESSES, parent=pool_id):
            self._forget_record(row.id, pool_id)
        self.store.commit(POOLS, pool_id)

    def _forget_record(self, row_id: str, pool_id: str) -> None:
        # Without fsync: what a power cut brings back is a free address, or one of a pool that is about to go.
        kind = replace(ADDRESSES, durable=False)
        self.store.intend(kind, row_id, pool_id, None)
        self.store.commit(kind, row_id)
