"""The `docker network create` that makes a network what was asked for in fewer words. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from pluginkit.errors import BadRequest

Pool = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Wanted:
    """A network as an operator asks for it. driver: as the engine knows pynet.

    peers: the hosts of an overlay, the same list in the same order on each; (): etcd says who they are. own: this
    host's address among them. options: `-o` options, passed on as they are.
    """

    name: str
    driver: str = "pynet"
    overlay: bool = False
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    own: str = ""
    internal: bool = False
    options: tuple[str, ...] = ()


def docker_words(wanted: Wanted) -> tuple[str, ...]:
    """Return the command's words.

    Raises: BadRequest: a subnet that is none, or an overlay that lacks what hosts without etcd must agree on.
    """
    pools = [_parse_pool(subnet) for subnet in wanted.subnets]
    return (
        *("docker", "network", "create", "-d", wanted.driver),
        *(["--internal"] if wanted.internal else []),
        *(["--ipv6"] if any(pool.version == 6 for pool in pools) else []),
        *_overlay(wanted, pools),
        *(word for pool in pools for word in ("--subnet", str(pool))),
        *(word for gateway in wanted.gateways or _gateways(wanted, pools) for word in ("--gateway", gateway)),
        *(word for option in wanted.options for word in ("-o", option)),
        wanted.name,
    )


def _overlay(wanted: Wanted, pools: list[Pool]) -> Iterator[str]:
    if not wanted.overlay:
        if wanted.peers:
            raise BadRequest("cannot create network: --peers are the hosts of an overlay; add --overlay")
        return
    yield from ("-o", "type=overlay", "-o", f"name={wanted.name}")
    if not wanted.peers:
        # Otherwise each host's engine would give out the same addresses.
        yield from ("--ipam-driver", wanted.driver, "--ipam-opt", f"name={wanted.name}")
        return
    if wanted.own not in wanted.peers:
        raise BadRequest(
            f"cannot create network: none of --peers {','.join(wanted.peers)} is this host's address; add it, on every"
            " host in the same place"
        )
    if not pools:
        raise BadRequest("cannot create network: hosts that only know each other need the same --subnet; add one")
    yield from ("-o", f"peers={','.join(wanted.peers)}")
    for pool in pools:
        yield from ("--ip-range", str(_part(pool, wanted.peers.index(wanted.own), len(wanted.peers))))


def _gateways(wanted: Wanted, pools: list[Pool]) -> list[str]:
    """Return a gateway for each pool that hosts without etcd must agree on: its first address."""
    return [str(pool[1]) for pool in pools] if wanted.peers else []


def _part(pool: Pool, place: int, count: int) -> Pool:
    """Return the part of the pool from which one of `count` hosts gives out addresses."""
    prefix = pool.prefixlen + (count - 1).bit_length()
    if prefix > pool.max_prefixlen - 2:
        raise BadRequest(f"cannot create network: {pool} is too small for {count} hosts; give a larger --subnet")
    size = 1 << (pool.max_prefixlen - prefix)
    return ip_network((pool[place * size], prefix))


def _parse_pool(text: str) -> Pool:
    try:
        return ip_network(text)
    except ValueError as exc:
        raise BadRequest(f"cannot create network: --subnet {text} is no subnet: {exc}") from exc
