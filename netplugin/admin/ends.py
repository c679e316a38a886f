"""The two ends of a packet, from what an administrator calls them: "host", an address, the name of a container."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from netplugin.admin.wire import NetworkInfo
from netplugin.engine.view import EngineView
from pluginkit.errors import BadRequest, NotFound

Address = IPv4Address | IPv6Address
HOST = "host"


def ends(
    source: str, destination: str, networks: Iterable[NetworkInfo], names: EngineView
) -> tuple[Address | None, Address]:
    """Return the addresses of both ends; None for a source that is the host.

    A container on several networks is the one on the network of the other end; else it has to be named by address.

    Raises: NotFound: no container has that name; BadRequest: it cannot be told which of its addresses is meant.
    """
    known = tuple(networks)
    starts = [None] if source == HOST else _addresses(source, known, names)
    if destination == HOST:
        raise BadRequest("cannot explain a packet to the host: say at which of its addresses")
    goals = _addresses(destination, known, names)
    pairs = [(start, goal) for start in starts for goal in goals if start is None or start.version == goal.version]
    near = [pair for pair in pairs if pair[0] is not None and _network(pair[0], known) == _network(pair[1], known)]
    chosen = near if len(starts) * len(goals) > 1 and near else pairs
    # Of two families the first.
    chosen = [pair for pair in chosen if pair[1].version == 4] or chosen
    if len(chosen) != 1:
        told = ", ".join(f"{start or HOST} to {goal}" for start, goal in chosen) or "the two are of different families"
        raise BadRequest(f"cannot tell which addresses are meant by {source} and {destination}: {told}; name them")
    return chosen[0]


def parse_port(text: str) -> tuple[int, Literal["tcp", "udp", "sctp", "icmp"]]:
    """Return number and protocol of PORT[/PROTOCOL]; "": 0 and icmp. Raises: BadRequest."""
    number, _, protocol = text.partition("/")
    if not text:
        return 0, "icmp"
    if not number.isdecimal() or not 0 < int(number) < 65536 or protocol not in ("", "tcp", "udp", "sctp"):
        raise BadRequest(f"cannot use the port {text}: write 80, 53/udp or 9/sctp")
    return int(number), "udp" if protocol == "udp" else "sctp" if protocol == "sctp" else "tcp"


def _addresses(name: str, networks: tuple[NetworkInfo, ...], names: EngineView) -> list[Address]:
    try:
        return [ip_address(name)]
    except ValueError:
        pass
    found = [
        ip_address(address.partition("/")[0])
        for network in networks for endpoint in network.Endpoints if names.container_name(endpoint.ID) == name
        for address in endpoint.Addresses
    ]  # fmt: skip
    if not found:
        raise NotFound(f"cannot find {name}: it is no address, and no running container on a network of pynet's")
    return found


def _network(address: Address, networks: tuple[NetworkInfo, ...]) -> str | None:
    held = (network.ID for network in networks for endpoint in network.Endpoints
            if str(address) in {each.partition("/")[0] for each in endpoint.Addresses})  # fmt: skip
    return next(held, None)
