"""The built-in IPAM driver, for networks whose driver has none. As with dockerd's, the lowest free address is given."""

from __future__ import annotations

import ipaddress
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network
from itertools import chain
from typing import Any

from runtime.errors import BadParameter, Conflict, Failed
from runtime.state import State

SPACE = "LocalDefault"
DEFAULT_POOLS = ("base=172.30.0.0/15,size=24",)
KIND = "ipam-pool"
GATEWAY = {"RequestAddressType": "com.docker.network.gateway"}
Subnet = IPv4Network | IPv6Network


def parse_pool(text: str) -> tuple[IPv4Network, int]:
    """Return the network out of which subnets are taken, and their prefix length, as dockerd's option has them.

    Raises: BadParameter.
    """
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    try:
        base, size = ipaddress.IPv4Network(fields.pop("base")), int(fields.pop("size"))
        if fields or not base.prefixlen <= size <= 30:
            raise ValueError(f"size {size} of {base}")
    except (KeyError, ValueError) as exc:
        raise BadParameter(f"cannot use address pool {text!r}: {exc}; write base=172.30.0.0/15,size=24") from exc
    return base, size


class DefaultIpam:
    """Pools and addresses, remembered. host_subnets: what the machine has routes to; no automatic pool overlaps it."""

    def __init__(
        self, state: State, host_subnets: Callable[[], list[Subnet]], pools: Iterable[str] = DEFAULT_POOLS
    ) -> None:
        self._state, self._host_subnets = state, host_subnets
        self._pools = [parse_pool(pool) for pool in pools]
        self._turn = threading.Lock()

    def space(self) -> str:
        """Return the address space of networks on this machine."""
        return SPACE

    def request_pool(
        self, _space: str, wanted: str, sub_pool: str, options: dict[str, str], v6: bool
    ) -> tuple[str, str, str]:
        """The pool is reserved; return its id, itself and its gateway, which is left to be asked for.

        Raises: BadParameter; Conflict: it overlaps with another; Failed: no automatic pool is left.
        """
        if options:
            raise BadParameter(
                f"cannot use IPAM options {sorted(options)}: the default IPAM driver has none; remove them"
            )
        with self._turn:
            taken = [ipaddress.ip_network(record["pool"]) for record in self._state.all(KIND).values()]
            if wanted:
                pool = ipaddress.ip_network(wanted)
                if clash := next((other for other in taken if _overlap(pool, other)), None):
                    raise Conflict(
                        f"cannot reserve {pool}: Pool overlaps with other one on this address space ({clash});"
                        " choose another"
                    )
            else:
                pool = self._automatic(v6, [*taken, *self._host_subnets()])
            key = f"{SPACE}/{pool}" + (f"/{sub_pool}" if sub_pool else "")
            self._state.put(KIND, key, {"pool": str(pool), "range": sub_pool or str(pool), "used": []})
            return key, str(pool), ""

    def release_pool(self, pool_id: str) -> None:
        """The pool is free again, with its addresses."""
        with self._turn:
            self._state.delete(KIND, pool_id)

    def request_address(self, pool_id: str, wanted: str, _options: dict[str, str]) -> str:
        """The address is reserved; return it with the pool's prefix length.

        Raises: Conflict: it is in use; BadParameter: not of this pool; Failed: the pool is full, or gone.
        """
        with self._turn:
            record = self._record(pool_id)
            pool, used = ipaddress.ip_network(record["pool"]), set(record["used"])
            if wanted:
                address = ipaddress.ip_address(wanted)
                if address not in pool:
                    raise BadParameter(f"cannot reserve {wanted}: it is not in {pool}; choose one that is")
                if str(address) in used:
                    raise Conflict(f"cannot reserve {wanted}: Address already in use; choose another, or none")
            else:
                address = self._free(record, pool, used)
            record["used"] = sorted({*used, str(address)})
            self._state.put(KIND, pool_id, record)
            return f"{address}/{pool.prefixlen}"

    def release_address(self, pool_id: str, address: str) -> None:
        """The address is free again, if it was not."""
        with self._turn:
            if record := self._state.get(KIND, pool_id):
                record["used"] = [used for used in record["used"] if used != address]
                self._state.put(KIND, pool_id, record)

    def keep(self, wanted: Mapping[str, Iterable[str]]) -> None:
        """Nothing is reserved but the addresses `wanted`, by pool; what a crash left behind is free again."""
        with self._turn:
            for pool_id, record in self._state.all(KIND).items():
                if pool_id in wanted:
                    self._state.put(KIND, pool_id, {**record, "used": sorted(wanted[pool_id])})
                else:
                    self._state.delete(KIND, pool_id)

    def _record(self, pool_id: str) -> dict[str, Any]:
        if record := self._state.get(KIND, pool_id):
            return record
        raise Failed(f"cannot reserve an address of {pool_id}: there is no such pool; create the network again")

    def _free(self, record: dict[str, Any], pool: Subnet, used: set[str]) -> Any:
        wanted = ipaddress.ip_network(record["range"])
        # The network's own address and the broadcast are nobody's, but in /31, /32 and their like.
        whole = wanted.num_addresses > 2
        lowest = 1 if whole and wanted.network_address == pool.network_address else 0
        ends = whole and wanted.version == 4 and wanted.broadcast_address == pool.broadcast_address
        highest = wanted.num_addresses - (2 if ends else 1)
        for offset in range(lowest, highest + 1):
            if str(address := wanted[offset]) not in used:
                return address
        raise Failed(f"cannot reserve an address of {pool}: no available addresses in {wanted}; remove containers")

    def _automatic(self, v6: bool, taken: list[Subnet]) -> Subnet:
        candidates: Iterable[Subnet]
        if v6:  # RFC 4193: a random prefix of one's own
            candidates = (ipaddress.IPv6Network(((0xFD << 120) | (secrets.randbits(56) << 64), 64)) for _ in range(100))
        else:
            candidates = chain.from_iterable(base.subnets(new_prefix=size) for base, size in self._pools)
        for candidate in candidates:
            if not any(_overlap(candidate, other) for other in taken):
                return candidate
        pools = "fd00::/8" if v6 else ", ".join(str(base) for base, _ in self._pools)
        raise Failed(f"cannot find a free subnet in {pools}: all overlap with others; name one with --subnet")


def _overlap(one: Subnet, other: Subnet) -> bool:
    return one.version == other.version and one.overlaps(other)
