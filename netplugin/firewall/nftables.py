"""Policies in the words of nftables: one table a family, in which ten thousand ports cost a packet what ten do.

A packet finds the chains of a network by the name of an interface, in verdict maps, and the container of a published
port in the maps below. Single ports are in hashed maps; runs that keep their numbers are one element of an interval
map; shifted runs are one element a port. docs/firewall.md shows the table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from netplugin.firewall.policy import FOREIGN_BRIDGES, Address, Opening, Policy
from netplugin.records import Protocol
from netplugin.resources import Family, NftBase, NftChain, NftElement, NftPorts, NftRuleset
from netplugin.values import LOCALHOST

TABLE = "pynet"
_ADDRESS_TYPE: dict[Family, str] = {"ipv4": "ipv4_addr", "ipv6": "ipv6_addr"}
_IP: dict[Family, str] = {"ipv4": "ip", "ipv6": "ip6"}
_PROTOCOL: dict[Protocol, int] = {"tcp": 6, "udp": 17, "sctp": 132}
_ESTABLISHED = "ct state established,related accept"
_PORT_MAPS = ("ports", "ranges", "limit_ports", "limit_ranges")
_BY_INTERFACE = ("closed", "to_network", "from_network", "to_host", "snat_from", "snat_to")


def base(family: Family) -> NftBase:
    """Return the table with everything that networks share; laid twice, it keeps what is in its maps.

    Our chains come five places before those of others (-100, 100, 0): the first translation of a connection is the one
    that counts, and a drop is final wherever it is said.
    """
    ip, address = _IP[family], _ADDRESS_TYPE[family]
    maps = [f"map {name} {{ type ifname : verdict; }}" for name in _BY_INTERFACE]
    by_port = ["open_ports", "open_ranges"]
    for where, key in (("any", ""), ("addr", f"{address} . ")):
        ports = f"{key}inet_proto . inet_service"
        maps += [
            f"map ports_{where} {{ type {ports} : {address} . inet_service; }}",
            f"map ranges_{where} {{ type {ports} : {address}; flags interval; }}",
            f"map limit_ports_{where} {{ type {ports} : verdict; }}",
            f"map limit_ranges_{where} {{ type {ports} : verdict; flags interval; }}",
        ]
        by_port += [f"{name}_{where}" for name in _PORT_MAPS]
    open_ports = f"{address} . inet_proto . inet_service"
    maps += [
        f"set open_ports {{ type {open_ports}; }}",
        f"set open_ranges {{ type {open_ports}; flags interval; }}",
    ]
    not_loopback = ["ip daddr 127.0.0.0/8 return"] if family == "ipv4" else []
    chains = {
        "prerouting { type nat hook prerouting priority -105; }": [
            *not_loopback,
            "fib daddr type local jump publish",
        ],
        "output { type nat hook output priority -105; }": ["fib daddr type local jump publish"],
        "postrouting { type nat hook postrouting priority 95; }": [
            "oifname vmap @snat_to",
            "iifname vmap @snat_from",
        ],
        "input { type filter hook input priority -5; }": ["iifname vmap @to_host"],
        "forward { type filter hook forward priority -5; }": [
            "iifname vmap @closed",
            "oifname vmap @to_network",
            "iifname vmap @from_network",
        ],
        "publish": list(_publish(ip)),
        "foreign": [f'oifname "{bridge.replace("+", "*")}" drop' for bridge in FOREIGN_BRIDGES],
    }
    lines = [f"add table {ip} {TABLE}"]
    lines += [f"add {kind} {ip} {TABLE} {rest}" for kind, rest in (entry.split(" ", 1) for entry in maps)]
    lines += [f"add chain {ip} {TABLE} {head}" for head in chains]
    for head, rules in chains.items():
        name = head.split(" ", 1)[0]
        lines.append(f"flush chain {ip} {TABLE} {name}")
        lines += [f"add rule {ip} {TABLE} {name} {rule}" for rule in rules]
    return NftBase(TABLE, "\n".join(lines) + "\n", _BY_INTERFACE, tuple(by_port))


def network_rules(policy: Policy) -> NftRuleset:
    """Return the chains of one network and family."""
    # A network with no way out is asked before the other one, which would let its own published ports be reached.
    closed = policy.enter == "none"
    chains = [
        _chain("to", policy, _enter(policy), "to_network"),
        _chain("closed", policy, _stay(policy), "closed")
        if closed
        else _chain("from", policy, _leave(), "from_network"),
    ]
    if policy.translate:
        chains.append(_chain("snat-from", policy, _masquerade(policy), "snat_from"))
        chains.append(_chain("snat-to", policy, _come_back(policy), "snat_to"))
        if policy.family == "ipv4":
            # Answers to the host arrive with their destination translated back, hence the state.
            guard = ["ip daddr 127.0.0.0/8 ct state != { established, related } drop"]
            chains.append(_chain("host", policy, guard, "to_host"))
    if policy.sources:
        chains.append(_chain("limit", policy, _limit(policy, policy.sources), ""))
    return NftRuleset(policy.family, policy.owner, tuple(chains))


def endpoint_ports(
    endpoint_id: str, policy: Policy, openings: tuple[Opening, ...]
) -> tuple[NftRuleset | NftPorts, ...]:
    """Return what opens the ports of one endpoint in one family: map elements, after the chains that some name."""
    if not openings:
        return ()
    owner = f"e{endpoint_id[:8]}"
    own = {opening.sources for opening in openings} - {policy.sources}
    chains = [NftChain(_limit_chain(owner, policy, each), tuple(_limit(policy, each)), "", "") for each in sorted(own)]
    elements = [element for opening in openings for element in _elements(owner, policy, opening)]
    rules = (NftRuleset(policy.family, owner, tuple(chains)),) if chains else ()
    return (*rules, NftPorts(policy.family, owner, tuple(elements)))


def _publish(ip: str) -> Iterator[str]:
    any_port, port_at = "meta l4proto . th dport", f"{ip} daddr . meta l4proto . th dport"
    for name in ("limit_ports", "limit_ranges"):
        yield f"{port_at} vmap @{name}_addr"
        yield f"{any_port} vmap @{name}_any"
    for name in ("ports", "ranges"):
        yield f"dnat {ip} to {port_at} map @{name}_addr"
        yield f"dnat {ip} to {any_port} map @{name}_any"


def _chain(prefix: str, policy: Policy, rules: Iterable[str], by: str) -> NftChain:
    return NftChain(f"{prefix}-{policy.owner}", tuple(rules), by, policy.bridge if by else "")


def _enter(policy: Policy) -> Iterator[str]:
    if policy.enter == "all":
        if not policy.icc:
            yield f'iifname "{policy.bridge}" ct status ! dnat drop'
        yield "accept"
        return
    if policy.enter == "published":
        yield _ESTABLISHED
    if policy.icc:
        yield f'iifname "{policy.bridge}" accept'
    if policy.enter == "published":
        yield from (f'iifname "{interface}" accept' for interface in policy.trusted)
        if policy.translate:
            yield "ct status dnat accept"
        else:
            ip = _IP[policy.family]
            stranger = "" if policy.icc else f'iifname != "{policy.bridge}" '
            yield f"{stranger}meta l4proto {'icmp' if policy.family == 'ipv4' else 'ipv6-icmp'} accept"
            port = f"{ip} daddr . meta l4proto . th dport"
            limit = f" jump limit-{policy.owner}" if policy.sources else " accept"
            yield from (f"{port} @{name}{limit}" for name in ("open_ports", "open_ranges"))
            if policy.sources:
                yield from (f"{port} @{name} accept" for name in ("open_ports", "open_ranges"))
    yield "drop"


def _stay(policy: Policy) -> Iterator[str]:
    yield f'oifname != "{policy.bridge}" drop'


def _leave() -> Iterator[str]:
    yield _ESTABLISHED
    # To a published port of another driver: that one decides.
    yield "ct status dnat accept"
    yield "jump foreign"
    yield "accept"


def _masquerade(policy: Policy) -> Iterator[str]:
    if policy.masquerade:
        target = f"snat to {policy.source}" if policy.source else "masquerade"
        yield from (f'{_IP[policy.family]} saddr {pool} oifname != "{policy.bridge}" {target}' for pool in policy.pools)


def _come_back(policy: Policy) -> Iterator[str]:
    # Back to the network it came from, by way of a published port: unless the source becomes the host's, the container
    # would answer its neighbour directly, from an address that the neighbour never asked.
    yield from (f"{_IP[policy.family]} saddr {pool} ct status dnat masquerade" for pool in policy.pools)
    if policy.family == "ipv4":
        yield "ip saddr 127.0.0.0/8 masquerade"


def _limit_chain(owner: str, policy: Policy, sources: tuple[str, ...]) -> str:
    """Return the name of the chain that `sources` alone pass; that of an endpoint's own tells them by a digest."""
    if sources == policy.sources:
        return f"limit-{policy.owner}"
    return f"limit-{hashlib.sha256(','.join(sources).encode()).hexdigest()[:6]}-{owner}"


def _limit(policy: Policy, sources: tuple[str, ...]) -> Iterator[str]:
    """Yield rules that return for those who may reach published ports.

    In a nat chain "accept" leaves the packet as it is: the host's own firewall decides about it.
    """
    networks = [source for source in sources if source != LOCALHOST]
    if LOCALHOST in sources:
        yield "fib saddr type local return"
    if networks:
        yield f"{_IP[policy.family]} saddr {{ {', '.join(networks)} }} return"
    yield "accept" if policy.translate else "drop"


def _elements(owner: str, policy: Policy, opening: Opening) -> Iterator[NftElement]:
    if opening.host is None:
        name = "open_ports" if opening.count == 1 else "open_ranges"
        first, last = opening.container_port, opening.container_port + opening.count - 1
        key, end = (_key(opening.container, opening.protocol, port) for port in (first, last))
        yield NftElement(name, key, end if opening.count > 1 else b"")
        return
    where = "any" if opening.host.is_unspecified else "addr"
    host = None if opening.host.is_unspecified else opening.host
    last = opening.host_port + opening.count - 1
    key, end = _key(host, opening.protocol, opening.host_port), _key(host, opening.protocol, last)
    if opening.count > 1 and opening.host_port == opening.container_port:
        yield NftElement(f"ranges_{where}", key, end, opening.container.packed)
    else:
        for n in range(opening.count):
            target = opening.container.packed + _pad((opening.container_port + n).to_bytes(2))
            yield NftElement(f"ports_{where}", _key(host, opening.protocol, opening.host_port + n), b"", target)
    if opening.sources:
        chain = _limit_chain(owner, policy, opening.sources)
        if opening.count > 1:
            yield NftElement(f"limit_ranges_{where}", key, end, chain=chain)
        else:
            yield NftElement(f"limit_ports_{where}", key, chain=chain)


def _key(host: Address | None, protocol: Protocol, port: int) -> bytes:
    """Return a packed key: each part of a concatenation fills whole words of four bytes."""
    address = host.packed if host is not None else b""
    return address + _pad(_PROTOCOL[protocol].to_bytes(1)) + _pad(port.to_bytes(2))


def _pad(value: bytes) -> bytes:
    return value.ljust(-(-len(value) // 4) * 4, b"\0")
