"""Every request and answer of IpamDriver, spelled as Docker spells them, and what the requests mean.

Source: docs/protocol.md; moby libnetwork/ipams/remote/api/api.go. What Go omits or sends as null is optional.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from netplugin.ipam.pools import IPAddress, IPNetwork, is_inside, usable
from netplugin.ipam.records import Pool
from netplugin.values import parse_name
from pluginkit.errors import BadRequest

LOCAL = "pylocal"
GLOBAL = "pyglobal"

DOCKERS_OWN = "com.docker.network."
ADDRESS_TYPE = "RequestAddressType"
GATEWAY = "com.docker.network.gateway"
ENDPOINT_NAME = "com.docker.network.endpoint.name"
ENDPOINT_MAC = "com.docker.network.endpoint.macaddress"

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_OPTIONS = ("name", "sticky")


@dataclass(frozen=True)
class PoolRequest:
    """IpamDriver.RequestPool. Pool "": any."""

    AddressSpace: str
    Pool: str = ""
    SubPool: str = ""
    Options: dict[str, Any] | None = None
    V6: bool = False


@dataclass(frozen=True)
class ReleasePoolRequest:
    """IpamDriver.ReleasePool."""

    PoolID: str


@dataclass(frozen=True)
class AddressRequest:
    """IpamDriver.RequestAddress. Address "": any."""

    PoolID: str
    Address: str = ""
    Options: dict[str, Any] | None = None


@dataclass(frozen=True)
class ReleaseAddressRequest:
    """IpamDriver.ReleaseAddress."""

    PoolID: str
    Address: str


@dataclass(frozen=True)
class Capabilities:
    """Answer to GetCapabilities: pynet remembers by itself, so the engine need not repeat anything when it starts."""

    RequiresMACAddress: bool = False
    RequiresRequestReplay: bool = False


@dataclass(frozen=True)
class AddressSpaces:
    """Answer to GetDefaultAddressSpaces."""

    LocalDefaultAddressSpace: str = LOCAL
    GlobalDefaultAddressSpace: str = GLOBAL


@dataclass(frozen=True)
class PoolAnswer:
    """Answer to RequestPool."""

    PoolID: str
    Pool: str
    Data: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AddressAnswer:
    """Answer to RequestAddress: the address with the prefix length of its pool."""

    Address: str
    Data: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AddressWish:
    """What RequestAddress asks for. address: None for any; owner: who is to get the same one again, "" for nobody."""

    address: IPAddress | None
    is_gateway: bool
    owner: str


def parse_pool(request: PoolRequest) -> Pool:
    """Return the pool that is asked for; its subnet is "" if any will do.

    Raises: BadRequest: an unknown address space or option, no network, host bits set, an ip-range outside of its pool,
    or of one that hosts share.
    """
    if request.AddressSpace not in (LOCAL, GLOBAL):
        raise BadRequest(f"cannot give a pool in {request.AddressSpace!r}: the address spaces are {LOCAL} and {GLOBAL}")
    sticky, name = _parse_options(request.Options or {})
    if name and request.AddressSpace == GLOBAL:
        raise BadRequest(f"cannot use --ipam-opt name={name} with --scope global: Swarm gives its addresses out itself")
    if name and request.SubPool:
        raise BadRequest(
            f"cannot use --ip-range {request.SubPool} with --ipam-opt name={name}: each host has blocks of its own"
        )
    if not request.Pool:
        if request.SubPool:
            raise BadRequest(f"cannot use --ip-range {request.SubPool} without --subnet")
        return Pool(request.AddressSpace, "", sticky=sticky, name=name)
    network = _parse_network(request.Pool, "subnet")
    ip_range = _parse_network(request.SubPool, "ip-range") if request.SubPool else network
    if not is_inside(ip_range, network):
        raise BadRequest(f"cannot use --ip-range {ip_range}: it is not inside of --subnet {network}")
    return Pool(request.AddressSpace, str(network), "" if ip_range == network else str(ip_range), sticky, name=name)


def parse_address(request: AddressRequest, pool: Pool) -> AddressWish:
    """Return what is asked for.

    Raises: BadRequest: it is no address, or not one that a host of the pool can have.
    """
    options = request.Options or {}
    mac = options.get(ENDPOINT_MAC) if pool.sticky else None
    name = options.get(ENDPOINT_NAME)
    owner = f"mac {mac}" if mac else f"name {name}" if name else ""
    address = parse_ip(request.Address) if request.Address else None
    if address is not None:
        network = pool.network
        if address not in network:
            raise BadRequest(f"cannot give {address}: it is outside of the pool {network}")
        first, last = usable(network)
        if not first <= int(address) - int(network.network_address) <= last:
            raise BadRequest(
                f"cannot give {address}: it is reserved in {network}; use {network[first]}-{network[last]}"
            )
    return AddressWish(address, options.get(ADDRESS_TYPE) == GATEWAY, owner)


def parse_ip(text: str) -> IPAddress:
    """Return `text` as an address.

    Raises: BadRequest: it is none.
    """
    try:
        return ip_address(text)
    except ValueError as exc:
        raise BadRequest(f"cannot use the address {text!r}: {exc}") from exc


def _parse_network(text: str, what: str) -> IPNetwork:
    try:
        network = ip_network(text)
    except ValueError as exc:
        raise BadRequest(f"cannot use the {what} {text!r}: {exc}") from exc
    if network.prefixlen == 0:
        raise BadRequest(f"cannot use the {what} {text}: everything is no {what}")
    return network


def _parse_options(options: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether the pool is sticky, and the name by which hosts share it.

    Docker's own options, such as swarm's serial one, ask for what is done anyway.

    Raises: BadRequest: an option that is neither Docker's nor ours, or a bad value.
    """
    for key in options:
        if key not in _OPTIONS and not key.startswith(DOCKERS_OWN):
            near = difflib.get_close_matches(key, _OPTIONS, n=1, cutoff=0.0)
            raise BadRequest(f"cannot use --ipam-opt {key}: there is no such option; the nearest is {near[0]}")
    sticky, name = str(options.get("sticky", "false")), str(options.get("name", ""))
    if sticky.lower() not in _BOOLEANS:
        raise BadRequest(f"cannot use --ipam-opt sticky={sticky}: it takes true or false")
    try:
        return _BOOLEANS[sticky.lower()], parse_name(name) if name else ""
    except ValueError as exc:
        raise BadRequest(f"cannot use --ipam-opt name={name}: it takes what -o name takes") from exc
