"""The simplest IpamDriver that could be, for pools that no network uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from tests.reference.step import BAD, REFUSED, Ask, Step

POOLS = tuple(IPv4Network(f"10.110.{number}.0/29") for number in range(3))
# What hosts can have of a /29.
NUMBERS = range(1, 7)


@dataclass
class Pool:
    """fresh: given by this run of the plugin, so that it cannot have been forgotten by the engine."""

    id: str
    fresh: bool = True
    held: set[int] = field(default_factory=set)


class Pools:
    """What the plugin has to have: pools with what is held in each."""

    def __init__(self) -> None:
        self.pools: dict[IPv4Network, Pool] = {}

    def request_pool(self, network: IPv4Network) -> Step:
        def then(answer: Mapping[str, Any]) -> None:
            assert answer["Pool"] == str(network)
            self.pools[network] = Pool(answer["PoolID"])

        body = {"AddressSpace": "pylocal", "Pool": str(network), "SubPool": "", "Options": {}, "V6": False}
        known = self.pools.get(network)
        if known is not None and (known.fresh or known.held):
            return Step("IpamDriver.RequestPool", body, REFUSED, "Pool overlaps")
        return Step("IpamDriver.RequestPool", body, then=then)

    def release_pool(self, network: IPv4Network) -> Step:
        body = {"PoolID": self._id(network)}
        return Step("IpamDriver.ReleasePool", body, then=lambda _: self.pools.pop(network, None) and None)

    def request_address(self, network: IPv4Network, number: int) -> Step:
        """number: 0: any."""

        def then(answer: Mapping[str, Any]) -> None:
            given = IPv4Interface(answer["Address"])
            assert given.network == network
            found = int(given.ip) - int(network.network_address)
            assert found in NUMBERS
            assert number in (0, found)
            # No address twice.
            assert found not in self.pools[network].held
            self.pools[network].held.add(found)

        body = {"PoolID": self._id(network), "Address": str(network[number]) if number else "", "Options": {}}
        pool = self.pools.get(network)
        if pool is None:
            return Step("IpamDriver.RequestAddress", body, REFUSED, "it is not known")
        if number in pool.held:
            return Step("IpamDriver.RequestAddress", body, REFUSED, "Address already in use")
        if not number and len(pool.held) == len(NUMBERS):
            return Step("IpamDriver.RequestAddress", body, REFUSED, "no available IPv4 addresses")
        return Step("IpamDriver.RequestAddress", body, then=then)

    def release_address(self, network: IPv4Network, number: int) -> Step:
        def then(_answer: Mapping[str, Any]) -> None:
            if pool := self.pools.get(network):
                pool.held.discard(number)

        body = {"PoolID": self._id(network), "Address": str(network[number])}
        return Step("IpamDriver.ReleaseAddress", body, then=then)

    def restarted(self) -> None:
        """The plugin runs anew."""
        for pool in self.pools.values():
            pool.fresh = False

    def end(self, ask: Ask) -> None:
        """All pools are released."""
        for network in POOLS:
            self.release_pool(network).take(ask)

    def _id(self, network: IPv4Network) -> str:
        pool = self.pools.get(network)
        return pool.id if pool else f"{network}/00000000"


WRONG = (
    Step("IpamDriver.RequestPool", {"AddressSpace": "pylocal", "Pool": "10.110.0.1/29"}, BAD),
    Step("IpamDriver.RequestPool", {"AddressSpace": "nowhere", "Pool": "10.110.9.0/29"}, BAD),
    Step("IpamDriver.ReleaseAddress", {"PoolID": "x", "Address": "10.110.0.256"}, BAD),
)
