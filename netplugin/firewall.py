"""Which rules there are, as values. docs/firewall.md shows them for an example.

Every chain of ours is reached by one jump from a built-in chain, so that removing pynet is removing what says PYNET.

    nat     PREROUTING  → PYNET-DNAT     published ports, for packets to any address of the host but 127.0.0.0/8
    nat     OUTPUT      → PYNET-DNAT     the same for the host itself, 127.0.0.0/8 included
    nat     POSTROUTING → PYNET-SNAT     masquerading
    filter  INPUT       → PYNET-INPUT    what a container sends to 127.0.0.0/8 is dropped: the bridge's route_localnet,
                                         which the host's own way to 127.0.0.1:port needs, would let it in
    filter  FORWARD     → PYNET-FORWARD  → PYNET-TO (may it enter the network?) then PYNET-FROM (may it leave?)

A published port needs no filter rule of its own: only a packet that DNAT was applied to has conntrack state DNAT, and
everything else from outside is dropped, also what is routed straight to a container's address.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from netplugin.records import Endpoint, Network, PublishedPort
from netplugin.resources import Base, Chain, Family, Jump, Ruleset

_LOCAL = "-m addrtype --dst-type LOCAL"
_ESTABLISHED = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
_DNATED = "-m conntrack --ctstate DNAT"


def base(family: Family) -> Base:
    """Return what all networks share.

    The jumps stand first in the built-in chains, where neither a policy nor a rule of others can drop what is meant to
    pass, and where "from docker0 to anywhere" of the built-in driver cannot let others in.
    """
    not_loopback = "! -d 127.0.0.0/8 " if family == "ipv4" else ""
    return Base(
        chains=(
            ("nat", "PYNET-DNAT"),
            ("nat", "PYNET-SNAT"),
            ("filter", "PYNET-INPUT"),
            ("filter", "PYNET-FORWARD"),
            ("filter", "PYNET-TO"),
            ("filter", "PYNET-FROM"),
        ),
        jumps=(
            Jump("nat", "PREROUTING", f"{not_loopback}{_LOCAL} -j PYNET-DNAT"),
            Jump("nat", "OUTPUT", f"{_LOCAL} -j PYNET-DNAT"),
            Jump("nat", "POSTROUTING", "-j PYNET-SNAT"),
            Jump("filter", "INPUT", "-j PYNET-INPUT"),
            Jump("filter", "FORWARD", "-j PYNET-FORWARD"),
            Jump("filter", "PYNET-FORWARD", "-j PYNET-TO"),
            Jump("filter", "PYNET-FORWARD", "-j PYNET-FROM"),
        ),
    )


def network_rules(network: Network, bridge: str, family: Family) -> Ruleset:
    """Return the rules of `network` in `family`."""
    owner = f"n{network.id[:8]}"
    if network.internal:
        enter: tuple[str, ...] = (f"-i {bridge} -j ACCEPT", "-j DROP")
        leave: tuple[str, ...] = ("-j DROP",)
    else:
        enter = (_ESTABLISHED, f"-i {bridge} -j ACCEPT", f"{_DNATED} -j ACCEPT", "-j DROP")
        leave = ("-j ACCEPT",)
    chains = [
        _chain("filter", "PYNET-TO", owner, f"-o {bridge} ", enter),
        _chain("filter", "PYNET-FROM", owner, f"-i {bridge} ", leave),
    ]
    if not network.internal:
        chains.append(_chain("nat", "PYNET-SNAT", owner, "", _masquerade(network, bridge, family)))
        if family == "ipv4":
            # Answers to the host arrive with their destination translated back, hence the state.
            guard = ("-d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP",)
            chains.append(_chain("filter", "PYNET-INPUT", owner, f"-i {bridge} ", guard))
    return Ruleset(family, owner, tuple(chains))


def endpoint_rules(endpoint: Endpoint, family: Family) -> Ruleset | None:
    """Return the rules that publish the ports of `endpoint` in `family`, or None if there are none."""
    interface = endpoint.address4 if family == "ipv4" else endpoint.address6
    if interface is None:
        return None
    rules = tuple(_dnat(endpoint.ports, interface.ip))
    if not rules:
        return None
    owner = f"e{endpoint.id[:8]}"
    return Ruleset(family, owner, (_chain("nat", "PYNET-DNAT", owner, "", rules),))


def _chain(table: str, parent: str, owner: str, match: str, rules: tuple[str, ...]) -> Chain:
    name = f"{parent}-{owner}"
    return Chain(name, rules, Jump(table, parent, f"{match}-j {name}"))


def _masquerade(network: Network, bridge: str, family: Family) -> tuple[str, ...]:
    subnets = network.subnets4 if family == "ipv4" else network.subnets6
    pools = [str(subnet.pool) for subnet in subnets]
    rules = [f"-s {pool} ! -o {bridge} -j MASQUERADE" for pool in pools if network.options.masquerade]
    # Back to the network it came from, by way of a published port: unless the source becomes the host's, the container
    # would answer its neighbour directly, from an address that the neighbour never asked.
    rules += [f"-s {pool} -o {bridge} {_DNATED} -j MASQUERADE" for pool in pools]
    if family == "ipv4":
        rules.append(f"-s 127.0.0.0/8 -o {bridge} -j MASQUERADE")
    return tuple(rules)


def _dnat(ports: Iterable[PublishedPort], container: IPv4Address | IPv6Address) -> Iterable[str]:
    for port in ports:
        host = port.host4 if container.version == 4 else port.host6
        if host is None:
            continue
        where = "" if host.is_unspecified else f"-d {host}/{host.max_prefixlen} "
        target = f"{container}" if container.version == 4 else f"[{container}]"
        yield (
            f"{where}-p {port.protocol} -m {port.protocol} --dport {port.host_port}"
            f" -j DNAT --to-destination {target}:{port.container_port}"
        )
