"""Blocks: the parts of a shared pool that belong to one host each, so that it gives addresses without asking. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import ip_network

from netplugin.ipam.pools import IPAddress, IPNetwork, usable

# Half of a pool's bits, so that it has as many blocks as a block has addresses, but no more than a host needs at once:
# 16 blocks of 16 in a /24, 1024 of 64 in a /16.
_MOST_BITS = {4: 6, 6: 16}


def block_prefixlen(pool: IPNetwork) -> int:
    """Return how long the prefixes of a pool's blocks are."""
    bits = pool.max_prefixlen - pool.prefixlen
    return pool.max_prefixlen - min(bits // 2, _MOST_BITS[pool.version])


def block_of(address: IPAddress, prefixlen: int) -> IPNetwork:
    """Return the block that an address is in."""
    return ip_network(f"{address}/{prefixlen}", strict=False)


def block_ranges(pool: IPNetwork, blocks: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """Return the numbers of the first and last address that a host can have, of each block, in order."""
    first, last = usable(pool)
    start = int(pool.network_address)
    spans = sorted(
        (int(block.network_address) - start, int(block.broadcast_address) - start) for block in map(ip_network, blocks)
    )
    return tuple((max(low, first), min(high, last)) for low, high in spans if low <= last and high >= first)


def first_untouched(pool: IPNetwork, prefixlen: int, gateway: str, touched: Collection[str]) -> IPNetwork | None:
    """Return the first block that nobody has and that has an address to give, or None.

    touched: blocks by their first address.
    """
    first, last = usable(pool)
    size = 1 << (pool.max_prefixlen - prefixlen)
    for number in range(0, pool.num_addresses, size):
        block = block_of(pool[number], prefixlen)
        low, high = pool[max(number, first)], pool[min(number + size - 1, last)]
        has_room = int(low) <= int(high) and not str(low) == str(high) == gateway
        if has_room and str(block.network_address) not in touched:
            return block
    return None
