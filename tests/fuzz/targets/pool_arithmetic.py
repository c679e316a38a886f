"""Addresses of one small subnet, given and taken back by two pools as the bytes say, beside a plain set."""

from __future__ import annotations

from ipaddress import ip_network

from netplugin.ipam.blocks import block_prefixlen, block_ranges, first_untouched
from netplugin.ipam.pools import PoolRange, choices, choose_pool, is_inside, overlap, usable
from netplugin.ipam.records import Address, Book

BASES = {4: ("10.9.0.0", 32), 6: ("fd00::", 128)}
SEEDS = (b"\x00\x02" + bytes(range(64)), b"\x01\x06" + bytes(range(0, 256, 3)), b"\x00\x00\x05\x80\x05", b"\x01" * 40)
POOLS = ("one", "other")


def one_input(data: bytes) -> None:
    if len(data) < 3:
        return
    version = 6 if data[0] & 1 else 4
    base, bits = BASES[version]
    network = ip_network(f"{base}/{bits - data[1] % 7}")
    size = network.num_addresses
    inner = ip_network(f"{network[data[2] % size]}/{bits - data[2] % (bits - network.prefixlen + 1)}", strict=False)
    low, high = usable(network)
    first, last = choices(network, inner)
    inside = [n for n in range(size) if network[n] in inner and low <= n <= high]
    assert inside == list(range(first, last + 1))
    book, held = Book(network), dict[int, str]()
    for number, step in enumerate(data[3:67], 1):
        _step(book, held, step, number, (first, last))
        free = [n for n in inside if n not in held]
        assert book.first_free(((first, last),)) == (free[0] if free else None)
        assert book.count(((0, size - 1),)) == len(held)
    _blocks(network, data[3:20])
    _cut(network, data[3:9])


def _step(book: Book, held: dict[int, str], step: int, turn: int, span: tuple[int, int]) -> None:
    """The next address is given, or one that is held is given back, as the lowest bits say."""
    pool, network = POOLS[step & 1], book._network
    mine = sorted(number for number, owner in held.items() if owner == pool)
    if step & 2 and mine:
        number = mine[(step >> 2) % len(mine)]
        book.put(pool, Address(str(network[number]), "endpoint", "", turn, held=False))
        del held[number]
        if step & 128:
            book.forget(pool, number)
    elif span[0] <= span[1]:
        number, _ = book.next_free(pool, (span,))
        if number is None:
            assert all(each in held for each in range(span[0], span[1] + 1))
            return
        assert span[0] <= number <= span[1]
        assert number not in held, "given twice"
        book.put(pool, Address(str(network[number]), "endpoint", "", turn, held=True))
        held[number] = pool
        assert book.holder(number) == pool


def _blocks(network: object, data: bytes) -> None:
    pool = ip_network(str(network))
    prefixlen = block_prefixlen(pool)
    blocks = list(pool.subnets(new_prefix=prefixlen))
    touched = {str(blocks[byte % len(blocks)].network_address) for byte in data}
    found = first_untouched(pool, prefixlen, "", touched)
    low, high = usable(pool)
    roomy = [each for each in blocks if any(pool[n] in each for n in range(low, high + 1))]
    assert found == next((each for each in roomy if str(each.network_address) not in touched), None)
    spans = block_ranges(pool, [str(each) for each in blocks])
    assert sum(last - first + 1 for first, last in spans) == high - low + 1, "blocks are all of the pool"


def _cut(network: object, data: bytes) -> None:
    base = ip_network(str(network))
    bits = base.max_prefixlen
    taken = [ip_network(f"{base[byte % base.num_addresses]}/{bits - byte % 4}", strict=False) for byte in data]
    for prefixlen in range(base.prefixlen, bits + 1):
        fitting = (each for each in base.subnets(new_prefix=prefixlen) if not any(overlap(each, t) for t in taken))
        found = choose_pool([PoolRange(base, prefixlen)], taken)
        assert found == next(fitting, None)
        assert found is None or is_inside(found, base)
