"""What pynet remembers of the pools and addresses that it gave, and the same in memory for one subnet.

Records keep addresses as text: the codec reads no field that may be of either family.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Network, ip_address, ip_network
from typing import Literal

from netplugin.ipam.blocks import block_ranges
from netplugin.ipam.pools import IPAddress, IPNetwork, NumberSet, choices, next_free, overlap

# Released addresses whose last owners a pool remembers.
REMEMBERED = 1024

# lent: to another host, out of a block of this one.
Role = Literal["gateway", "aux", "endpoint", "lent"]


@dataclass(frozen=True)
class Pool:
    """A pool, from RequestPool to ReleasePool. ip_range: from where addresses are chosen; "" for all of the subnet.

    references: how often it was given; more than once only in the global address space. name: of the network whose
    hosts share the pool; "": it is this host's. blocks: those of a shared pool that are this host's.
    """

    address_space: str
    subnet: str
    ip_range: str = ""
    sticky: bool = False
    references: int = 1
    name: str = ""
    blocks: tuple[str, ...] = ()

    @property
    def network(self) -> IPNetwork:
        """The subnet."""
        return ip_network(self.subnet)

    @property
    def range_network(self) -> IPNetwork | None:
        """The ip-range, if there is one."""
        return ip_network(self.ip_range) if self.ip_range else None

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The numbers of the first and last address of each part to choose from, in order."""
        return block_ranges(self.network, self.blocks) if self.name else (choices(self.network, self.range_network),)

    def is_own(self, address: IPAddress) -> bool:
        """Tell whether this host gives the address without asking others."""
        return not self.name or any(address in ip_network(block) for block in self.blocks)

    @property
    def book_key(self) -> str:
        """What all pools have in common that must not give the same address."""
        return f"{self.address_space}/{self.subnet}"

    def clashes(self, other: Pool) -> bool:
        """Tell whether both cannot be given: they overlap, and are not two separate ip-ranges of the same subnet."""
        if self.address_space != other.address_space or not overlap(self.network, other.network):
            return False
        mine, others = self.range_network, other.range_network
        return self.subnet != other.subnet or mine is None or others is None or overlap(mine, others)


@dataclass(frozen=True)
class Address:
    """An address of a pool, held from RequestAddress to ReleaseAddress, and remembered for its owner afterwards.

    owner: who gets it again; "" for nobody. turn: the how-manieth it was of those that went round; 0: it was asked for.
    """

    address: str
    role: Role
    owner: str
    turn: int
    held: bool


@dataclass(frozen=True)
class Installation:
    """What was drawn once for all time. ula: the /48 for IPv6 pools that nobody chose."""

    ula: IPv6Network


@dataclass
class _Share:
    """The part of a book that belongs to one pool. last: the number that went out last of those that go round."""

    entries: dict[int, Address] = field(default_factory=dict)
    former: dict[str, int] = field(default_factory=dict)
    released: dict[int, None] = field(default_factory=dict)
    asked_by: dict[int, str] = field(default_factory=dict)
    turn: int = 0
    last: int = -1


class Book:
    """The addresses of one subnet by number, whichever of its pools they are of. Any question costs O(address bits)."""

    def __init__(self, network: IPNetwork) -> None:
        self._network = network
        self._held = NumberSet(network.max_prefixlen - network.prefixlen)
        self._shares: dict[str, _Share] = {}

    def number(self, address: IPAddress) -> int:
        """Return the number of an address of the subnet."""
        return int(address) - int(self._network.network_address)

    def put(self, pool_id: str, record: Address, asked_by: str | None = None) -> None:
        """The record is in the book. asked_by: the engine that it was given to just now; None: an earlier run did."""
        number = self.number(ip_address(record.address))
        share = self._shares.setdefault(pool_id, _Share())
        before = share.entries.get(number)
        if before is not None and share.former.get(before.owner) == number:
            del share.former[before.owner]
        share.entries[number] = record
        if record.owner:
            share.former[record.owner] = number
        share.released.pop(number, None)
        share.asked_by.pop(number, None)
        if record.held:
            self._held.add(number)
            if asked_by is not None:
                share.asked_by[number] = asked_by
        else:
            self._held.discard(number)
            share.released[number] = None
        if record.turn > share.turn:
            share.turn, share.last = record.turn, number

    def forget(self, pool_id: str, number: int) -> None:
        """A released address of the pool is as if it had never been given."""
        share = self._shares[pool_id]
        record = share.entries.pop(number)
        del share.released[number]
        if share.former.get(record.owner) == number:
            del share.former[record.owner]

    def drop(self, pool_id: str) -> bool:
        """Nothing of the pool is in the book; return whether something of another one is."""
        share = self._shares.pop(pool_id, _Share())
        for number, record in share.entries.items():
            if record.held:
                self._held.discard(number)
        return bool(self._shares)

    def entry(self, pool_id: str, number: int) -> Address | None:
        """Return what the pool knows of an address."""
        return self._shares.setdefault(pool_id, _Share()).entries.get(number)

    def holder(self, number: int) -> str | None:
        """Return the pool that holds an address, if one does."""
        if number not in self._held:
            return None
        return next(pool_id for pool_id in self._shares if (one := self.entry(pool_id, number)) and one.held)

    def asked_by(self, pool_id: str, number: int) -> str | None:
        """Return the engine to which this run of pynet gave a held address; None: an earlier run did."""
        return self._shares[pool_id].asked_by.get(number)

    def former(self, pool_id: str, owner: str) -> int | None:
        """Return the address that `owner` had last, if it is free."""
        number = self._shares.setdefault(pool_id, _Share()).former.get(owner)
        return None if number is None or number in self._held else number

    def first_free(self, ranges: Sequence[tuple[int, int]]) -> int | None:
        """Return the lowest free address of the ranges."""
        return next_free(self._held, ranges, -1)

    def next_free(self, pool_id: str, ranges: Sequence[tuple[int, int]]) -> tuple[int | None, int]:
        """Return the free address of the ranges whose turn it is, and which turn that is."""
        share = self._shares.setdefault(pool_id, _Share())
        return next_free(self._held, ranges, share.last), share.turn + 1

    def held(self, pool_id: str, role: Role) -> Iterator[tuple[int, Address]]:
        """Yield the addresses of the pool that are held in that role."""
        for number, record in list(self._shares.setdefault(pool_id, _Share()).entries.items()):
            if record.held and record.role == role:
                yield number, record

    def count(self, ranges: Sequence[tuple[int, int]]) -> int:
        """Return how many addresses of the ranges are held."""
        held = (number for share in self._shares.values() for number, one in share.entries.items() if one.held)
        return sum(any(first <= number <= last for first, last in ranges) for number in held)

    def surplus(self, pool_id: str) -> int | None:
        """Return the address that has been free for longest, if the pool remembers more than it may."""
        share = self._shares[pool_id]
        if len(share.released) <= REMEMBERED:
            return None
        return next(number for number in share.released if number != share.last)
