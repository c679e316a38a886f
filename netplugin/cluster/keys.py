"""The keys in etcd and what stands in them; docs/overlay.md has the table. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Literal

from netplugin.records import Network
from pluginkit import wire

PREFIX = "/pynet/v1/"
# All that a host must hear of as it happens.
AT = f"{PREFIX}at/"
# Pools that hosts share, who uses them, and whose the blocks are.
POOL = f"{PREFIX}pool/"
# Written with every new pool, so that two that are chosen at the same time do not overlap.
POOLS_CHANGED = f"{PREFIX}pools"

# Networks that `pynet mirror` makes on every host.
MIRROR = f"{PREFIX}mirror/"


@dataclass(frozen=True)
class NetworkValue:
    """What all hosts agree on. subnets: pool and gateway of each, "" for none."""

    vni: int
    port: int
    mtu: int
    subnets: tuple[tuple[str, str], ...]
    encrypted: bool = False
    schema: int = 1


@dataclass(frozen=True)
class HostValue:
    """A host that takes part. epoch: grows with each start of its pynet."""

    name: str
    vtep: str
    epoch: int
    schema: int = 1


@dataclass(frozen=True)
class MemberValue:
    """A host that is on a network. network: what its engine calls it.

    Of an encrypted one the VTEP is inside of its WireGuard link, whose are public_key and endpoint; else these are "".
    """

    vtep: str
    network: str
    public_key: str = ""
    endpoint: str = ""
    schema: int = 1


@dataclass(frozen=True)
class EndpointValue:
    """An endpoint and where it is. host: its host's ID. names: those of its container, on networks with `dns`."""

    host: str
    vtep: str
    mac: str
    address4: IPv4Interface | None
    address6: IPv6Interface | None
    names: tuple[str, ...] = ()
    schema: int = 1


@dataclass(frozen=True)
class AddressValue:
    """Who has an address. host "": every host of the network, for something else. endpoint "": not yet known."""

    host: str
    endpoint: str
    schema: int = 1


@dataclass(frozen=True)
class PoolValue:
    """A pool of one family. gateway: "" until a host has asked for it. block: length of its blocks' prefixes."""

    subnet: str
    gateway: str
    block: int
    schema: int = 1


@dataclass(frozen=True)
class UserValue:
    """A host uses the pool."""

    schema: int = 1


@dataclass(frozen=True)
class BlockValue:
    """Whose a block is; "": nobody's, but addresses of it were given one by one."""

    host: str
    schema: int = 1


@dataclass(frozen=True)
class LentValue:
    """A host has, or asks for, an address of a block that is another's. granted: it has it."""

    owner: str
    host: str
    granted: bool
    schema: int = 1


@dataclass(frozen=True)
class Place:
    """What a key below AT speaks of."""

    network: str
    what: Literal["host", "endpoint", "lent"]
    id: str


@dataclass(frozen=True)
class PoolPart:
    """What a key below POOL speaks of: the pool itself, a host that uses it, or a block by its first address."""

    network: str
    version: int
    what: Literal["pool", "host", "block"]
    id: str = ""


def network_key(name: str) -> str:
    """Return the key of a network, which makes its name unique."""
    return f"{PREFIX}net/{name}"


def vni_key(vni: int, port: int) -> str:
    """Return the key that makes a VNI unique, among those on one port."""
    return f"{PREFIX}vni/{port}/{vni:06x}"


def host_key(host: str) -> str:
    """Return the key of a host that takes part."""
    return f"{PREFIX}host/{host}"


def alive_key(host: str) -> str:
    """Return the key that is there while the host's pynet runs and reaches etcd."""
    return f"{PREFIX}alive/{host}"


def members_prefix(name: str) -> str:
    """Return what the keys of a network's hosts begin with."""
    return f"{AT}{name}/host/"


def member_key(name: str, host: str) -> str:
    """Return the key of a host on a network."""
    return f"{members_prefix(name)}{host}"


def endpoint_key(name: str, endpoint: str) -> str:
    """Return the key of an endpoint on a network."""
    return f"{AT}{name}/endpoint/{endpoint}"


def address_key(name: str, address: IPv4Address | IPv6Address) -> str:
    """Return the key that makes an address unique on a network."""
    return f"{addresses_prefix(name)}{address}"


def addresses_prefix(name: str) -> str:
    """Return what the keys of a network's addresses begin with."""
    return f"{PREFIX}address/{name}/"


def lent_prefix(name: str) -> str:
    """Return what the keys of addresses begin with that hosts have of others' blocks."""
    return f"{AT}{name}/lent/"


def lent_key(name: str, address: IPv4Address | IPv6Address) -> str:
    """Return the key by which a host has an address of another one's block, or asks for it."""
    return f"{lent_prefix(name)}{address}"


def pool_key(name: str, version: int) -> str:
    """Return the key of a network's pool of one family."""
    return f"{POOL}{name}/{version}"


def users_prefix(name: str, version: int) -> str:
    """Return what the keys of the hosts that use a pool begin with."""
    return f"{pool_key(name, version)}/host/"


def user_key(name: str, version: int, host: str) -> str:
    """Return the key of a host that uses a pool."""
    return f"{users_prefix(name, version)}{host}"


def blocks_prefix(name: str, version: int) -> str:
    """Return what the keys of a pool's blocks begin with."""
    return f"{pool_key(name, version)}/block/"


def block_key(name: str, block: IPv4Network | IPv6Network) -> str:
    """Return the key that makes a block one host's."""
    return f"{blocks_prefix(name, block.version)}{block.network_address}"


def mirror_key(name: str) -> str:
    """Return the key of what a network is to the engines of its hosts."""
    return f"{MIRROR}{name}"


def settling_key(name: str, version: int) -> str:
    """Return the key that is there for a while after a pool was lost: until then no block is taken."""
    return f"{PREFIX}settling/{name}/{version}"


def place_of(key: str) -> Place | None:
    """Return what a key below AT speaks of; None for one that no version of ours wrote."""
    match key.removeprefix(AT).split("/"):
        case [network, ("host" | "endpoint" | "lent") as what, id_]:
            return Place(network, what, id_)
    return None


def pool_part_of(key: str) -> PoolPart | None:
    """Return what a key below POOL speaks of; None for one that no version of ours wrote."""
    match key.removeprefix(POOL).split("/"):
        case [network, ("4" | "6") as version]:
            return PoolPart(network, int(version), "pool")
        case [network, ("4" | "6") as version, ("host" | "block") as what, id_]:
            return PoolPart(network, int(version), what, id_)
    return None


def parse_value(place: Place, value: bytes) -> MemberValue | EndpointValue | LentValue:
    """Return what stands in a key below AT. Raises: BadRequest: nothing that can be read."""
    if place.what == "host":
        return wire.decode(value, MemberValue)
    return wire.decode(value, LentValue) if place.what == "lent" else wire.decode(value, EndpointValue)


def subnets_of(network: Network) -> tuple[tuple[str, str], ...]:
    """Return a network's subnets as they stand in its key."""
    return tuple(sorted((str(subnet.pool), str(subnet.gateway or "")) for subnet in network.subnets))
