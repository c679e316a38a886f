"""Published ports: from the engine's port map to the ports of a record.

Ephemeral ports and "one out of this range" are settled here, by asking a callback whether a port is free; the record
then holds the port that was found, so that a restart finds it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import chain

import msgspec

from netplugin.records import Endpoint, Network, Protocol, PublishedPort
from netplugin.wire import PortBinding, PublishedRun
from pluginkit.errors import BadRequest, Exhausted
from pluginkit.store import Row

PORT_MAP = "com.docker.network.portmap"

_PROTOCOLS: dict[int, Protocol] = {6: "tcp", 17: "udp", 132: "sctp"}
_ANY4 = IPv4Address(0)
_ANY6 = IPv6Address(0)

Address = IPv4Address | IPv6Address
# Where ports are open, and the number of each on the host and in the container.
Where = tuple[Protocol, IPv4Address | None, IPv6Address | None]
Pair = tuple[int, int]
IsFree = Callable[[Protocol, Iterable[Address], int], bool]


def parse_port_map(options: Mapping[str, msgspec.Raw] | None) -> tuple[PortBinding, ...]:
    """Return the bindings in the options of a request; none if there is no port map.

    Raises: BadRequest: an entry is not a binding, or no port can be published by its protocol.
    """
    try:
        entries = (options or {}).get(PORT_MAP, b"null")
        bindings = msgspec.json.decode(entries, type=tuple[PortBinding, ...] | None) or ()
    except msgspec.DecodeError as exc:
        raise BadRequest(f"cannot read {PORT_MAP}: {exc}") from exc
    for binding in bindings:
        if binding.Proto not in _PROTOCOLS:
            raise BadRequest(f"cannot publish port {binding.Port}: protocol {binding.Proto} has none of tcp, udp, sctp")
        if not 0 < binding.Port < 65536 or not 0 <= binding.HostPort < 65536 or not 0 <= binding.HostPortEnd < 65536:
            raise BadRequest(f"cannot publish port {binding.HostPort}:{binding.Port}: ports go from 1 to 65535")
    return bindings


def with_ports_of_container(
    endpoint: Endpoint, bindings: Iterable[PortBinding], of_sandbox: Callable[[str], Iterable[Row[Endpoint]]]
) -> Endpoint:
    """Return the endpoint; if it never had ports, with those that its container had last on another network.

    The engine moves the ports of a container to another endpoint when its gateway changes.
    """
    chosen = any(not binding.HostPort or binding.HostPortEnd > binding.HostPort for binding in bindings)
    if not chosen or not endpoint.sandbox or endpoint.ports or endpoint.former_ports:
        return endpoint
    former = (row.current.former_ports for row in of_sandbox(endpoint.sandbox) if row.current is not None)
    return replace(endpoint, former_ports=next(filter(None, former), ()))


def choose_ports(
    bindings: Iterable[PortBinding], network: Network, endpoint: Endpoint, ephemeral: range, is_free: IsFree
) -> tuple[PublishedPort, ...]:
    """Return the published ports for the bindings, neighbouring ones as one run.

    A binding of one host port gets that, free or not: whoever then fails to hold it knows who has it. Another gets the
    port that it had last, if that is free.

    Raises: BadRequest: a host address that the endpoint cannot be reached by; Exhausted: no port of a range is free.
    """
    chosen: dict[Where, set[Pair]] = {}
    # Once for all bindings that differ in their ports alone: there may be ten thousand.
    places: dict[tuple[int, str], tuple[Protocol, list[Address], set[Pair]]] = {}
    taken: set[tuple[Protocol, int]] = set()
    last = _host_ports((*endpoint.former_ports, *endpoint.ports))
    own = set(_host_ports(endpoint.ports).items())

    def free(protocol: Protocol, container_port: int, addresses: Iterable[Address], port: int) -> bool:
        """Tell whether this endpoint can have the port: it may have it already."""
        if (protocol, port) in taken:
            return False
        return ((protocol, container_port), port) in own or is_free(protocol, addresses, port)

    for binding in bindings:
        place = places.get((binding.Proto, binding.HostIP))
        if place is None:
            protocol = _PROTOCOLS[binding.Proto]
            host4, host6 = _host_addresses(binding, network, endpoint)
            addresses = [address for address in (host4, host6) if address is not None]
            place = protocol, addresses, chosen.setdefault((protocol, host4, host6), set())
            places[binding.Proto, binding.HostIP] = place
        protocol, addresses, pairs = place
        if not addresses:
            continue
        port = binding.HostPort
        if not port or binding.HostPortEnd > port:
            choices = binding_range(binding, ephemeral)
            candidates = _candidates(choices, last.get((protocol, binding.Port), 0), endpoint.id if not port else "")
            port = next((port for port in candidates if free(protocol, binding.Port, addresses, port)), 0)
            if not port:
                raise Exhausted(
                    f"cannot publish port {binding.Port}/{protocol}: all ports are allocated in"
                    f" {choices[0]}-{choices[-1]}; free one"
                )
        taken.add((protocol, port))
        pairs.add((port, binding.Port))
    return _as_runs(chosen)


def runs_of(ports: Iterable[PublishedPort]) -> list[PublishedRun]:
    """Return the ports as a port map that tells a run in one entry, with each address on which it is open."""
    numbers = {protocol: number for number, protocol in _PROTOCOLS.items()}
    return [
        PublishedRun(
            numbers[port.protocol], port.container_port, port.container_port + port.count - 1,
            str(host), port.host_port, port.host_port + port.count - 1,
        )
        for port in ports for host in (port.host4, port.host6) if host is not None
    ]  # fmt: skip


def binding_range(binding: PortBinding, ephemeral: range) -> range:
    """Return the host ports that a binding may get."""
    return range(binding.HostPort, binding.HostPortEnd + 1) if binding.HostPort else ephemeral


def _candidates(choices: range, last: int, start_by: str) -> Iterator[int]:
    """Yield the port that was had last, then the others; ephemeral ones from another place for each endpoint."""
    # So that a port that became free is not given to the next one at once.
    start = int.from_bytes(start_by.encode()[:8]) % len(choices) if start_by else 0
    return chain([last] if last in choices else [], choices[start:], choices[:start])


def _host_ports(ports: Iterable[PublishedPort]) -> dict[tuple[Protocol, int], int]:
    """Return the host port of each container port."""
    return {(port.protocol, port.container_port + n): port.host_port + n for port in ports for n in range(port.count)}


def _as_runs(chosen: Mapping[Where, Iterable[Pair]]) -> tuple[PublishedPort, ...]:
    """Return the same ports with consecutive ones joined, whatever order the engine sent them in."""
    runs: list[PublishedPort] = []
    for (protocol, host4, host6), pairs in sorted(chosen.items(), key=lambda item: [str(part) for part in item[0]]):
        # Numbers only until the end of the run is known: there may be ten thousand of them.
        joined: list[list[int]] = []
        for host_port, container_port in sorted(pairs):
            if joined:
                first_host, first_container, count = joined[-1]
                if (host_port, container_port) == (first_host + count, first_container + count):
                    joined[-1][2] += 1
                    continue
            joined.append([host_port, container_port, 1])
        runs += [
            PublishedPort(protocol, container_port, host_port, host4, host6, count)
            for host_port, container_port, count in joined
        ]
    return tuple(runs)


def _host_addresses(
    binding: PortBinding, network: Network, endpoint: Endpoint
) -> tuple[IPv4Address | None, IPv6Address | None]:
    """Return where a binding is open, None for a family in which it is not."""
    if not binding.HostIP:
        default4, default6 = network.options.host_binding_ipv4, network.options.host_binding_ipv6
        either = default4 is not None or default6 is not None
        host4 = (default4 or (None if either else _ANY4)) if endpoint.address4 else None
        host6 = (default6 or (None if either else _ANY6)) if endpoint.address6 else None
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
