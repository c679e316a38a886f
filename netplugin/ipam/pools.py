"""Pool arithmetic: which pool to cut next, which addresses of it can be given, which is the next free one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from pluginkit.errors import BadRequest

IPNetwork = IPv4Network | IPv6Network
IPAddress = IPv4Address | IPv6Address

# One word of a NumberSet. 64 keeps the tree of a /64 at eleven levels.
_WORD_BITS = 64
_FULL = (1 << _WORD_BITS) - 1


@dataclass(frozen=True)
class PoolRange:
    """Room from which pools of `prefixlen` are cut."""

    base: IPNetwork
    prefixlen: int


# One /24 holds more containers than a host runs on one network, and 3072 networks need 3072 of them: Docker's 31 pools
# of 65534 and 4094 addresses run out first, and lie where home and office networks are (192.168, 172.16-20).
# 10.200.0.0/13 is clear of what others choose by themselves in 10/8: swarm and clouds from 10.0, OpenVPN 10.8,
# Kubernetes 10.42, 10.43, 10.96, 10.244, podman 10.88. A VPN that claims all of 10/8 leaves the second range.
DEFAULT_RANGES = (
    PoolRange(IPv4Network("10.200.0.0/13"), 24),
    PoolRange(IPv4Network("172.28.0.0/14"), 24),
)


@dataclass(frozen=True)
class PoolConfig:
    """Where pools come from that nobody chose. Without an IPv6 range: /64s of the installation's own ULA /48."""

    ranges: tuple[PoolRange, ...] = DEFAULT_RANGES

    def of_version(self, version: int) -> tuple[PoolRange, ...]:
        """Return the ranges of one family, in the order in which they are used up."""
        return tuple(pool_range for pool_range in self.ranges if pool_range.base.version == version)


def parse_pool_range(text: str) -> PoolRange:
    """Return the range that `text` describes as dockerd's --default-address-pool does: base=10.10.0.0/16,size=24.

    Raises: BadRequest: it does not.
    """
    try:
        fields = dict(part.strip().split("=") for part in text.split(","))
        base, prefixlen = ip_network(fields.pop("base")), int(fields.pop("size"))
        if fields or not base.prefixlen <= prefixlen <= base.max_prefixlen:
            raise ValueError(text)
    except (ValueError, KeyError) as exc:
        raise BadRequest(
            f"cannot use the pool range {text!r}: it is spelled base=NETWORK,size=BITS, as in base=10.10.0.0/16,size=24"
        ) from exc
    return PoolRange(base, prefixlen)


def choose_pool(ranges: Iterable[PoolRange], taken: Iterable[IPNetwork]) -> IPNetwork | None:
    """Return the first pool of `ranges` that overlaps with nothing in `taken`, or None."""
    spans = sorted(_span(network) for network in taken)
    for pool_range in ranges:
        base, version = pool_range.base, pool_range.base.version
        size = 1 << (base.max_prefixlen - pool_range.prefixlen)
        start, end = int(base.network_address), int(base.broadcast_address)
        for taken_version, first, last in spans:
            if taken_version != version or last < start:
                continue
            if start + size <= first:
                break
            start = (last // size + 1) * size
        if start + size - 1 <= end:
            return (
                IPv4Network((start, pool_range.prefixlen))
                if version == 4
                else IPv6Network((start, pool_range.prefixlen))
            )
    return None


def _span(network: IPNetwork) -> tuple[int, int, int]:
    return network.version, int(network.network_address), int(network.broadcast_address)


def overlap(one: IPNetwork, other: IPNetwork) -> bool:
    """Tell whether an address is in both."""
    return one.version == other.version and one.overlaps(other)


def is_inside(inner: IPNetwork, outer: IPNetwork) -> bool:
    """Tell whether every address of `inner` is in `outer`."""
    return overlap(inner, outer) and inner.prefixlen >= outer.prefixlen


def usable(network: IPNetwork) -> tuple[int, int]:
    """Return the numbers of the first and last address that a host can have; address = network[number].

    The network and broadcast addresses of IPv4 and the subnet-router anycast address of IPv6 are not among them, except
    in networks of one or two addresses. Source: RFC 3021, RFC 4291 section 2.6.1, RFC 6164.
    """
    size = network.num_addresses
    if size <= 2:
        return 0, size - 1
    return 1, size - 2 if network.version == 4 else size - 1


def choices(network: IPNetwork, ip_range: IPNetwork | None) -> tuple[int, int]:
    """Return the numbers of the first and last address that may be given to who asks for any.

    With an ip-range they lie in it, gateways too: what is outside of it may be given out by somebody else.
    """
    first, last = usable(network)
    if ip_range is None:
        return first, last
    start = int(ip_range.network_address) - int(network.network_address)
    return max(first, start), min(last, start + ip_range.num_addresses - 1)


class NumberSet:
    """A set of numbers below 2**bits that finds the next number *not* in it in O(bits) steps, however full it is.

    A sparse tree of words: a bit on the lowest level is a member, a bit above says that the word below it is full. Only
    words with a bit set exist, so that a /64 costs what its members cost.
    """

    def __init__(self, bits: int) -> None:
        self._size = 1 << bits
        depth = max(1, -(-bits // (_WORD_BITS.bit_length() - 1)))
        self._levels: tuple[dict[int, int], ...] = tuple({} for _ in range(depth))

    def add(self, number: int) -> None:
        """`number` is in the set."""
        for level in self._levels:
            number, bit = divmod(number, _WORD_BITS)
            word = level[number] = level.get(number, 0) | 1 << bit
            if word != _FULL:
                return

    def discard(self, number: int) -> None:
        """`number` is not in the set."""
        for level in self._levels:
            number, bit = divmod(number, _WORD_BITS)
            word = level.get(number, 0)
            if word & ~(1 << bit):
                level[number] = word & ~(1 << bit)
            else:
                level.pop(number, None)
            if word != _FULL:
                return

    def __contains__(self, number: int) -> bool:
        word, bit = divmod(number, _WORD_BITS)
        return bool(self._levels[0].get(word, 0) >> bit & 1)

    def next_free(self, number: int) -> int | None:
        """Return the lowest number from `number` on that is not in the set, or None."""
        for height, level in enumerate(self._levels):
            word, bit = divmod(number, _WORD_BITS)
            free = _FULL & ~level.get(word, 0) & _FULL << bit
            if free:
                number = word * _WORD_BITS + _lowest(free)
                for below in reversed(self._levels[:height]):
                    number = number * _WORD_BITS + _lowest(_FULL & ~below.get(number, 0))
                return number if number < self._size else None
            # Nothing is left in this word: go on above it, behind it.
            number = word + 1
        return None


def _lowest(word: int) -> int:
    return (word & -word).bit_length() - 1


def next_free(held: NumberSet, ranges: Sequence[tuple[int, int]], after: int) -> int | None:
    """Return the next number behind `after` that is not held, going round from the last of the ranges to the first.

    ranges: first and last number of each, in order. None: all are held.
    """
    behind = ((max(after + 1, first), last) for first, last in ranges)
    before = ((first, min(after, last)) for first, last in ranges)
    for start, end in (*behind, *before):
        number = held.next_free(start) if start <= end else None
        if number is not None and number <= end:
            return number
    return None
