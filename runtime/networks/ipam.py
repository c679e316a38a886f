"""What networks ask of their IPAM drivers, in dockerd's order; what fails halfway is given back.

Source: moby libnetwork/network.go, ipamAllocateVersion; endpoint.go, assignAddressVersion.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from runtime.errors import ApiError, BadParameter, Failed
from runtime.networks.default_ipam import GATEWAY, DefaultIpam, Subnet
from runtime.networks.records import Address, Network, Pool
from runtime.plugins.registry import Plugins
from runtime.plugins.transport import Refused

CAPABILITY = "IpamDriver"
MAC = "com.docker.network.endpoint.macaddress"
MOST_POOLS = 64
_log = logging.getLogger(__name__)


class Driver(Protocol):
    """An IPAM driver. A pool is (id, subnet, gateway or nothing)."""

    def space(self) -> str:
        """Return the address space of networks on this machine."""

    def request_pool(
        self, space: str, wanted: str, sub_pool: str, options: dict[str, str], v6: bool
    ) -> tuple[str, str, str]:
        """The pool is reserved."""

    def release_pool(self, pool_id: str) -> None:
        """The pool is free."""

    def request_address(self, pool_id: str, wanted: str, options: dict[str, str]) -> str:
        """The address is reserved; return it with its prefix length."""

    def release_address(self, pool_id: str, address: str) -> None:
        """The address is free."""


class NullIpam:
    """No addresses at all, for `--ipam-driver null`."""

    def space(self) -> str:
        """Return the name of the space in which there is nothing."""
        return "null"

    def request_pool(
        self, _space: str, wanted: str, _sub_pool: str, _options: dict[str, str], v6: bool
    ) -> tuple[str, str, str]:
        """Return the pool that is everything.

        Raises: BadParameter: a subnet is wanted.
        """
        if wanted:
            raise BadParameter("cannot use --subnet: the null IPAM driver has no addresses; leave it away")
        return ("null/::/0", "::/0", "") if v6 else ("null/0.0.0.0/0", "0.0.0.0/0", "")

    def release_pool(self, _pool_id: str) -> None:
        """Nothing was reserved."""

    def request_address(self, _pool_id: str, wanted: str, _options: dict[str, str]) -> str:
        """Return no address.

        Raises: BadParameter: one is wanted.
        """
        if wanted:
            raise BadParameter(f"cannot reserve {wanted}: the null IPAM driver has no addresses; leave it away")
        return ""

    def release_address(self, _pool_id: str, _address: str) -> None:
        """Nothing was reserved."""


class RemoteIpam:
    """A plugin."""

    def __init__(self, name: str, plugins: Plugins) -> None:
        self._name, self._plugins = name, plugins

    def space(self) -> str:
        """Return what the plugin calls the addresses of one machine."""
        return str(self._plugins.call(self._name, CAPABILITY, "GetDefaultAddressSpaces")["LocalDefaultAddressSpace"])

    def needs_mac(self) -> bool:
        """Return whether the plugin wants to know for which MAC address an address is."""
        try:
            return bool(self._plugins.call(self._name, CAPABILITY, "GetCapabilities").get("RequiresMACAddress"))
        except Refused:  # older than this method
            return False

    def request_pool(
        self, space: str, wanted: str, sub_pool: str, options: dict[str, str], v6: bool
    ) -> tuple[str, str, str]:
        """The plugin has reserved a pool.

        Raises: Refused; Failed: the answer is no pool.
        """
        body = {"AddressSpace": space, "Pool": wanted, "SubPool": sub_pool, "Options": options or None, "V6": v6}
        answer = self._plugins.call(self._name, CAPABILITY, "RequestPool", body)
        try:
            pool = str(ipaddress.ip_network(answer["Pool"], strict=False))
            return str(answer["PoolID"]), pool, str((answer.get("Data") or {}).get(GATEWAY["RequestAddressType"], ""))
        except (KeyError, ValueError) as exc:
            raise Failed(
                f"cannot use IPAM driver {self._name}: it answered RequestPool with {answer}; {exc!r}"
            ) from exc

    def release_pool(self, pool_id: str) -> None:
        """The plugin has got its pool back, or will hear of it."""
        self._plugins.tell(self._name, CAPABILITY, "ReleasePool", {"PoolID": pool_id})

    def request_address(self, pool_id: str, wanted: str, options: dict[str, str]) -> str:
        """The plugin has reserved an address.

        Raises: Refused; Failed: the answer is no address.
        """
        body = {"PoolID": pool_id, "Address": wanted, "Options": options}
        answer = str(self._plugins.call(self._name, CAPABILITY, "RequestAddress", body).get("Address") or "")
        try:
            if "/" not in answer:
                raise ValueError("no prefix length")
            return str(ipaddress.ip_interface(answer))
        except ValueError as exc:
            raise Failed(
                f"cannot use IPAM driver {self._name}: it answered RequestAddress with {answer!r}; {exc}"
            ) from exc

    def release_address(self, pool_id: str, address: str) -> None:
        """The plugin has got its address back."""
        self._plugins.tell(self._name, CAPABILITY, "ReleaseAddress", {"PoolID": pool_id, "Address": address})


class Ipam:
    """Pools for networks and addresses for endpoints, whoever the driver is."""

    def __init__(self, builtin: DefaultIpam, plugins: Plugins, host_subnets: Callable[[], list[Subnet]]) -> None:
        self._builtin, self._plugins, self._host_subnets = builtin, plugins, host_subnets

    def driver(self, name: str) -> Driver:
        """Return the IPAM driver of that name; `default` and `null` are built in."""
        builtin: dict[str, Driver] = {"default": self._builtin, "null": NullIpam()}
        return builtin.get(name) or RemoteIpam(name, self._plugins)

    def request_pools(self, network: Network, config: list[dict[str, Any]], v6: bool, skip_gateway: bool) -> list[Pool]:
        """The pools of one family are reserved, with gateway and auxiliary addresses; return them.

        Raises: ApiError: nothing of them is reserved.
        """
        driver, options = self.driver(network.ipam_driver), (network.body.get("IPAM") or {}).get("Options") or {}
        pools: list[Pool] = []
        try:
            space = driver.space()
            for each in config or [{}]:
                pools.append(self._request_pool(driver, space, each, options, v6))
                gateway = each.get("Gateway") or ""
                if gateway or not (skip_gateway or pools[-1].gateway):
                    cidr = driver.request_address(pools[-1].id, gateway, dict(GATEWAY))
                    pools[-1] = replace(pools[-1], gateway=cidr)
                for name, address in (each.get("AuxiliaryAddresses") or {}).items():
                    cidr = driver.request_address(pools[-1].id, address, {})
                    pools[-1] = replace(pools[-1], aux={**pools[-1].aux, name: cidr})
        except ApiError:
            self.release_pools(network.ipam_driver, pools)
            raise
        return pools

    def _request_pool(
        self, driver: Driver, space: str, each: dict[str, Any], options: dict[str, str], v6: bool
    ) -> Pool:
        wanted, rejected = each.get("Subnet") or "", []
        try:
            while True:
                pool_id, pool, gateway = driver.request_pool(space, wanted, each.get("IPRange") or "", options, v6)
                found = Pool(pool_id, space, pool, gateway, asked=bool(wanted))
                subnet = ipaddress.ip_network(pool)
                used = any(subnet.version == other.version and subnet.overlaps(other)
                           for other in self._host_subnets())  # fmt: skip
                if wanted or subnet.prefixlen == 0 or not used:
                    return found
                # Kept until a better one is found, else the driver would offer it again.
                rejected.append(found)
                if len(rejected) >= MOST_POOLS:
                    raise Failed(
                        "its IPAM driver has only subnets that the machine has routes to; name one with --subnet"
                    )
        finally:
            for other in rejected:
                _tolerated(f"release pool {other.id}", lambda other=other: driver.release_pool(other.id))  # type: ignore[misc]

    def release_pools(self, driver_name: str, pools: list[Pool] | tuple[Pool, ...]) -> None:
        """The pools are free again, as far as their driver wants to know."""
        driver = self.driver(driver_name)
        for pool in pools:
            for cidr in (pool.gateway, *pool.aux.values()):
                if cidr:
                    self.release(driver_name, Address(pool.id, cidr))
            _tolerated(f"release pool {pool.id}", lambda pool=pool: driver.release_pool(pool.id))  # type: ignore[misc]

    def request(self, network: Network, pools: tuple[Pool, ...], wanted: str, mac: str) -> Address | None:
        """An address is reserved in one of the pools, `wanted` if it is not empty; return it. Without pools: None.

        Raises: BadParameter: the pools were not chosen by the user, or it is in none of them; ApiError.
        """
        if not pools:
            if wanted:
                raise BadParameter(f"cannot reserve {wanted}: network {network.name} has no addresses of its family")
            return None
        if wanted:
            pools = tuple(pool for pool in pools if ipaddress.ip_address(wanted) in ipaddress.ip_network(pool.pool))
            if not pools or not pools[0].asked:
                raise BadParameter(
                    f"cannot reserve {wanted} in network {network.name}: user specified IP address is supported only"
                    " when connecting to networks with user configured subnets that contain it; choose another, or none"
                )
        driver = self.driver(network.ipam_driver)
        options = {MAC: mac} if mac and isinstance(driver, RemoteIpam) and driver.needs_mac() else {}
        for pool in pools:
            try:
                cidr = driver.request_address(pool.id, wanted, options)
                return Address(pool.id, cidr) if cidr else None
            except Failed:
                # A driver cannot say that a pool is full; the next may have room.
                if pool == pools[-1]:
                    raise
        return None

    def release(self, driver_name: str, address: Address) -> None:
        """The address is free again, as far as its driver wants to know."""
        driver = self.driver(driver_name)
        _tolerated(f"release {address.cidr}", lambda: driver.release_address(address.pool, address.ip))


def _tolerated(what: str, action: Callable[[], None]) -> None:
    try:
        action()
    except ApiError as exc:
        _log.warning("cannot %s: %s", what, exc)
