"""Published ports: from the engine's port map to the ports of a record.

Ephemeral ports and "one out of this range" are settled here, by asking a callback whether a port is free; the record
then holds the port that was found, so that a restart finds it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import chain
from typing import Any

import msgspec

from netplugin.records import Endpoint, Network, Protocol, PublishedPort
from netplugin.wire import PortBinding
from pluginkit.errors import BadRequest, Exhausted

PORT_MAP = "com.docker.network.portmap"

_PROTOCOLS: dict[int, Protocol] = {6: "tcp", 17: "udp", 132: "sctp"}
_ANY4 = IPv4Address(0)
_ANY6 = IPv6Address(0)

IsFree = Callable[[Protocol, Iterable[IPv4Address | IPv6Address], int], bool]


def parse_port_map(options: Mapping[str, Any] | None) -> tuple[PortBinding, ...]:
    """Return the bindings in the options of a request; none if there is no port map.

    Raises: BadRequest: an entry is not a binding, or no port can be published by its protocol.
    """
    try:
        bindings = msgspec.convert((options or {}).get(PORT_MAP) or [], type=tuple[PortBinding, ...])
    except msgspec.ValidationError as exc:
        raise BadRequest(f"cannot read {PORT_MAP}: {exc}") from exc
    for binding in bindings:
        if binding.Proto not in _PROTOCOLS:
            raise BadRequest(f"cannot publish port {binding.Port}: protocol {binding.Proto} has none of tcp, udp, sctp")
        if not 0 < binding.Port < 65536 or not 0 <= binding.HostPort < 65536 or not 0 <= binding.HostPortEnd < 65536:
            raise BadRequest(f"cannot publish port {binding.HostPort}:{binding.Port}: ports go from 1 to 65535")
    return bindings


def choose_ports(
    bindings: Iterable[PortBinding], network: Network, endpoint: Endpoint, ephemeral: range, is_free: IsFree
) -> tuple[PublishedPort, ...]:
    """Return a published port for each binding.

    A binding of one host port gets that, free or not: whoever then fails to hold it knows who has it.

    Raises: BadRequest: a host address that the endpoint cannot be reached by; Exhausted: no port of a range is free.
    """
    chosen: list[PublishedPort] = []
    taken: set[tuple[Protocol, int]] = set()
    for binding in bindings:
        protocol = _PROTOCOLS[binding.Proto]
        host4, host6 = _host_addresses(binding, network, endpoint)
        addresses = [address for address in (host4, host6) if address is not None]
        if not addresses:
            continue
        for port in _candidates(binding, ephemeral, endpoint.id):
            only_choice = binding.HostPort and binding.HostPortEnd <= binding.HostPort
            if only_choice or ((protocol, port) not in taken and is_free(protocol, addresses, port)):
                break
        else:
            first, last = binding.HostPort or ephemeral[0], binding.HostPortEnd or ephemeral[-1]
            raise Exhausted(
                f"cannot publish port {binding.Port}/{protocol}: all ports are allocated in {first}-{last}; free one"
            )
        taken.add((protocol, port))
        chosen.append(PublishedPort(protocol, binding.Port, port, host4, host6))
    return tuple(chosen)


def _candidates(binding: PortBinding, ephemeral: range, endpoint_id: str) -> Iterator[int]:
    if binding.HostPort:
        return iter(range(binding.HostPort, max(binding.HostPort, binding.HostPortEnd) + 1))
    # Each endpoint starts elsewhere, so that a port that became free is not given to the next one at once.
    start = int.from_bytes(endpoint_id.encode()[:8]) % len(ephemeral)
    return chain(ephemeral[start:], ephemeral[:start])


def _host_addresses(
    binding: PortBinding, network: Network, endpoint: Endpoint
) -> tuple[IPv4Address | None, IPv6Address | None]:
    if not binding.HostIP:
        default = network.options.host_binding_ipv4
        host4 = (default or _ANY4) if endpoint.address4 else None
        host6 = _ANY6 if endpoint.address6 and default is None else None
    else:
        try:
            host = ip_address(binding.HostIP)
        except ValueError as exc:
            raise BadRequest(f"cannot publish port {binding.Port} on {binding.HostIP}: it is no IP address") from exc
        host4 = host if isinstance(host, IPv4Address) and endpoint.address4 else None
        host6 = host if isinstance(host, IPv6Address) and endpoint.address6 else None
        if host6 is not None and host6.is_loopback:
            raise BadRequest(
                f"cannot publish port {binding.Port} on ::1: the kernel translates no IPv6 loopback address"
            )
        # "All addresses" of a family that the endpoint lacks is none; as with the built-in driver that is no error.
        if host4 is None and host6 is None and host.is_unspecified:
            return None, None
    if host4 is None and host6 is None:
        raise BadRequest(
            f"cannot publish port {binding.Port} on {binding.HostIP or 'the host'}: the endpoint has no address of that"
            " family; create the network with --ipv6 or publish on another address"
        )
    return host4, host6
