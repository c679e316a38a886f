"""Policies in the words of iptables. docs/firewall.md shows them for an example.

Every chain of ours is reached by one jump from a built-in chain, so that removing pynet is removing what says PYNET.

    nat     PREROUTING  → PYNET-DNAT     published ports, for packets to any address of the host but 127.0.0.0/8
    nat     OUTPUT      → PYNET-DNAT     the same for the host itself, 127.0.0.0/8 included
    nat     POSTROUTING → PYNET-SNAT     masquerading
    filter  INPUT       → PYNET-INPUT    what a container sends to 127.0.0.0/8 is dropped: the bridge's route_localnet,
                                         which the host's own way to 127.0.0.1:port needs, would let it in
    mangle  FORWARD     → PYNET-GUARD    → PYNET-CLOSED (from a network with no way out?), PYNET-ENTER (may it enter the
                                         network?), PYNET-LEAVE (may it leave?): what may not is dropped
    filter  FORWARD     → PYNET-FORWARD  → PYNET-TO, PYNET-FROM: what was not dropped is accepted

A drop in mangle is final. In filter, where dockerd puts what lets its own containers out before everything else, it
would not be. A published port needs no rule of its own there: only a packet that DNAT was applied to has conntrack
state DNAT, and everything else from outside is dropped, also what is routed straight to a container's address.
"""

from __future__ import annotations

from collections.abc import Iterable

from netplugin.firewall.policy import FOREIGN_BRIDGES, Opening, Policy
from netplugin.resources import Base, BaseChain, Chain, Family, Jump, Ruleset
from netplugin.values import LOCALHOST

_LOCAL = "-m addrtype --dst-type LOCAL"
_ESTABLISHED = "-m conntrack --ctstate RELATED,ESTABLISHED"
_DNATED = "-m conntrack --ctstate DNAT"


def base(family: Family) -> Base:
    """Return what all networks share.

    The jumps stand first in the built-in chains, where neither a policy nor a rule of others can drop what is meant to
    pass; only the administrator's DOCKER-USER comes before.
    """
    not_loopback = "! -d 127.0.0.0/8 " if family == "ipv4" else ""
    accepting = exceptions_base(family)
    return Base(
        chains=(
            BaseChain("mangle", "PYNET-GUARD", ("-j PYNET-CLOSED", "-j PYNET-ENTER", "-j PYNET-LEAVE")),
            BaseChain("mangle", "PYNET-CLOSED"),
            BaseChain("mangle", "PYNET-ENTER"),
            BaseChain("mangle", "PYNET-LEAVE"),
            BaseChain("mangle", "PYNET-OPEN"),
            BaseChain("mangle", "PYNET-FOREIGN", tuple(f"-o {bridge} -j DROP" for bridge in FOREIGN_BRIDGES)),
            BaseChain("nat", "PYNET-DNAT"),
            BaseChain("nat", "PYNET-SNAT"),
            BaseChain("filter", "PYNET-INPUT"),
            *accepting.chains,
        ),
        jumps=(
            Jump("mangle", "FORWARD", "-j PYNET-GUARD"),
            Jump("nat", "PREROUTING", f"{not_loopback}{_LOCAL} -j PYNET-DNAT"),
            Jump("nat", "OUTPUT", f"{_LOCAL} -j PYNET-DNAT"),
            Jump("nat", "POSTROUTING", "-j PYNET-SNAT"),
            Jump("filter", "INPUT", "-j PYNET-INPUT"),
            *accepting.jumps,
        ),
    )


def exceptions_base(family: Family) -> Base:  # noqa: ARG001 - one signature with base
    """Return what all networks share of what accepts in filter."""
    return Base(
        chains=(
            BaseChain("filter", "PYNET-FORWARD", ("-j PYNET-TO", "-j PYNET-FROM")),
            BaseChain("filter", "PYNET-TO"),
            BaseChain("filter", "PYNET-FROM"),
        ),
        jumps=(Jump("filter", "FORWARD", "-j PYNET-FORWARD"),),
    )


def exceptions(policy: Policy) -> Ruleset:
    """Return the rules that accept in filter what nobody has dropped before: nftables, or ours in mangle.

    A drop is final wherever it is, an accept is not: a FORWARD policy of DROP, which dockerd may set, would undo it.
    """
    enter = ("-j ACCEPT",)
    # The state DNAT is that of a connection, so its answers have it too: they come first. To a published port of
    # another driver: that one decides.
    leave = (f"{_ESTABLISHED} -j ACCEPT", f"{_DNATED} -j RETURN", "-j ACCEPT")
    chains = (
        _chain("filter", "PYNET-TO", policy.owner, f"-o {policy.bridge} ", enter),
        _chain("filter", "PYNET-FROM", policy.owner, f"-i {policy.bridge} ", leave),
    )
    return Ruleset(policy.family, policy.owner, chains)


def network_rules(policy: Policy) -> Ruleset:
    """Return the rules of one network and family."""
    # A network with no way out is asked before the other one, which would let its own published ports be reached.
    closed = policy.enter == "none"
    leave, rules = ("PYNET-CLOSED", _stay(policy)) if closed else ("PYNET-LEAVE", _leave())
    chains = [
        _chain("mangle", "PYNET-ENTER", policy.owner, f"-o {policy.bridge} ", tuple(_enter(policy))),
        _chain("mangle", leave, policy.owner, f"-i {policy.bridge} ", tuple(rules)),
        *exceptions(policy).chains,
    ]
    if policy.translate:
        chains.append(_chain("nat", "PYNET-SNAT", policy.owner, "", tuple(_masquerade(policy))))
        if policy.family == "ipv4":
            # Answers to the host arrive with their destination translated back, hence the state.
            guard = ("-d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP",)
            chains.append(_chain("filter", "PYNET-INPUT", policy.owner, f"-i {policy.bridge} ", guard))
    return Ruleset(policy.family, policy.owner, tuple(chains))


def endpoint_rules(endpoint_id: str, policy: Policy, openings: tuple[Opening, ...]) -> Ruleset | None:
    """Return the rules that open the ports of one endpoint in one family, or None if it has none."""
    if not openings:
        return None
    owner = f"e{endpoint_id[:8]}"
    if policy.translate:
        chain = _chain("nat", "PYNET-DNAT", owner, "", tuple(_dnat(openings)))
    else:
        container = openings[0].container
        match = f"-d {container}/{container.max_prefixlen} "
        chain = _chain("mangle", "PYNET-OPEN", owner, match, tuple(_open(openings)))
    return Ruleset(policy.family, owner, (chain,))


def _chain(table: str, parent: str, owner: str, match: str, rules: tuple[str, ...]) -> Chain:
    name = f"{parent}-{owner}"
    return Chain(name, rules, Jump(table, parent, f"{match}-j {name}"))


def _enter(policy: Policy) -> Iterable[str]:
    # What may enter returns instead of being accepted, so that it meets the rules that others have in mangle.
    if policy.enter == "all":
        if not policy.icc:
            yield f"-i {policy.bridge} -m conntrack ! --ctstate DNAT -j DROP"
        return
    if policy.enter == "published":
        yield f"{_ESTABLISHED} -j RETURN"
    if policy.icc:
        # Bridged frames, where br_netfilter shows them to iptables, and what a container sends by way of the gateway.
        yield f"-i {policy.bridge} -j RETURN"
    if policy.enter == "published":
        yield from (f"-i {interface} -j RETURN" for interface in policy.trusted)
        if policy.translate:
            yield f"{_DNATED} -j RETURN"
        else:
            stranger = "" if policy.icc else f"! -i {policy.bridge} "
            yield f"{stranger}-p {'icmp' if policy.family == 'ipv4' else 'ipv6-icmp'} -j RETURN"
            yield "-j PYNET-OPEN"
    yield "-j DROP"


def _stay(policy: Policy) -> Iterable[str]:
    yield f"! -o {policy.bridge} -j DROP"


def _leave() -> Iterable[str]:
    yield f"{_ESTABLISHED} -j RETURN"
    # To a published port of another driver: that one decides.
    yield f"{_DNATED} -j RETURN"
    yield "-j PYNET-FOREIGN"


def _masquerade(policy: Policy) -> Iterable[str]:
    if policy.masquerade:
        target = f"SNAT --to-source {policy.source}" if policy.source else "MASQUERADE"
        yield from (f"-s {pool} ! -o {policy.bridge} -j {target}" for pool in policy.pools)
    # Back to the network it came from, by way of a published port: unless the source becomes the host's, the container
    # would answer its neighbour directly, from an address that the neighbour never asked.
    yield from (f"-s {pool} -o {policy.bridge} {_DNATED} -j MASQUERADE" for pool in policy.pools)
    if policy.family == "ipv4":
        yield f"-s 127.0.0.0/8 -o {policy.bridge} -j MASQUERADE"


def _dnat(openings: tuple[Opening, ...]) -> Iterable[str]:
    for opening in openings:
        assert opening.host is not None
        where = "" if opening.host.is_unspecified else f"-d {opening.host}/{opening.host.max_prefixlen} "
        ports = _run(opening.host_port, opening.count)
        for source, local in _sources(opening.sources):
            yield (
                f"{source}{where}-p {opening.protocol} -m {opening.protocol} --dport {ports}{local}"
                f" -j DNAT --to-destination {_target(opening)}"
            )


def _open(openings: tuple[Opening, ...]) -> Iterable[str]:
    # From a chain this deep nothing returns to where it may enter, so it is accepted at once.
    for opening in openings:
        ports = _run(opening.container_port, opening.count)
        for source, local in _sources(opening.sources):
            yield f"{source}-p {opening.protocol} -m {opening.protocol} --dport {ports}{local} -j ACCEPT"


def _sources(sources: tuple[str, ...]) -> Iterable[tuple[str, str]]:
    """Yield, for each source that may reach published ports, the matches before and after the port's."""
    if not sources:
        yield "", ""
    for source in sources:
        yield ("", " -m addrtype --src-type LOCAL") if source == LOCALHOST else (f"-s {source} ", "")


def _run(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first}:{first + count - 1}"


def _target(opening: Opening) -> str:
    """Return the destination of a DNAT rule; that of a shifted run names the base, from which the kernel counts."""
    container = str(opening.container) if opening.container.version == 4 else f"[{opening.container}]"
    if opening.count == 1:
        return f"{container}:{opening.container_port}"
    if opening.container_port == opening.host_port:
        return str(opening.container)
    last = opening.container_port + opening.count - 1
    return f"{container}:{opening.container_port}-{last}/{opening.host_port}"
