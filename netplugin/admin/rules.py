"""The rules of networks and endpoints, by chain, and what each chain is for. Pure.

They are computed as for the kernel, from the same records; that the kernel has them is what a reconcile sees to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from netplugin.admin.wire import ChainInfo, span
from netplugin.firewall.backends import Backend
from netplugin.firewall.policy import Opening, endpoint_openings, network_policies
from netplugin.plan import bridge_name
from netplugin.records import Endpoint, Network
from netplugin.resources import NftRuleset, Ruleset
from pluginkit.reconcile import Resource

# By the beginnings of their names: those of iptables, then those of nftables.
PURPOSES = {
    "PYNET-ENTER": "what may come into the network",
    "PYNET-LEAVE": "what may leave it: not to bridges of other drivers",
    "PYNET-CLOSED": "nothing leaves it",
    "PYNET-TO": "accepts what comes in and was not dropped before, so that a FORWARD policy of DROP does not matter",
    "PYNET-FROM": "the same for what leaves it",
    "PYNET-SNAT": "which address packets carry when they leave it, or come back to it by a published port",
    "PYNET-INPUT": "the host's loopback is not for containers",
    "PYNET-DNAT": "published ports lead to the container",
    "PYNET-OPEN": "published ports of the container, which is reached by its own address",
    "to": "what may come into the network",
    "from": "what may leave it: not to bridges of other drivers",
    "closed": "nothing leaves it",
    "snat-from": "which address packets carry when they leave it",
    "snat-to": "which address packets carry when they come back to it by a published port",
    "host": "the host's loopback is not for containers",
    "limit": "who may use published ports; who may not goes past them",
}
_PORTS = "published ports lead to the container: elements of maps, looked up at once"


def rules(networks: Sequence[tuple[Network, tuple[Endpoint, ...]]], backend: Backend) -> tuple[ChainInfo, ...]:
    """Return every chain of the networks and of their endpoints, in the order in which they are made."""
    return tuple(chain for network, endpoints in networks for chain in _of_network(network, endpoints, backend))


def purpose(chain: str) -> str:
    """Return what a chain of that name is for. Raises: LookupError: it is none of ours."""
    fitting = [start for start in PURPOSES if chain.startswith(f"{start}-")]
    if not fitting:
        raise LookupError(chain)
    return PURPOSES[max(fitting, key=len)]


def _of_network(network: Network, endpoints: Iterable[Endpoint], backend: Backend) -> Iterator[ChainInfo]:
    policies = network_policies(network, bridge_name(network))
    for policy in policies:
        yield from _chains(network.id, "", backend.network(policy))
    for endpoint in endpoints:
        for policy in policies:
            openings = endpoint_openings(endpoint, policy)
            resources = backend.endpoint(endpoint.id, policy, openings)
            yield from _chains(network.id, endpoint.id, resources)
            if openings and not any(isinstance(each, Ruleset) for each in resources):
                lines = tuple(map(_element, openings))
                yield ChainInfo(network.id, endpoint.id, policy.family, "nft", "", lines, _PORTS)


def _chains(network_id: str, endpoint_id: str, resources: Iterable[Resource]) -> Iterator[ChainInfo]:
    for each in resources:
        if isinstance(each, Ruleset):
            for chain in each.chains:
                told = (chain.jump.table, chain.name, chain.rules, purpose(chain.name))
                yield ChainInfo(network_id, endpoint_id, each.family, *told)
        elif isinstance(each, NftRuleset):
            for nft in each.chains:
                yield ChainInfo(network_id, endpoint_id, each.family, "nft", nft.name, nft.rules, purpose(nft.name))


def _element(opening: Opening) -> str:
    last = opening.count - 1
    to = f"{opening.container} port {span(opening.container_port, opening.container_port + last)}"
    if opening.host is None:
        return f"{opening.protocol} to {to}"
    where = "any address" if opening.host.is_unspecified else str(opening.host)
    who = f", for {' '.join(opening.sources)}" if opening.sources else ""
    return f"{opening.protocol} {span(opening.host_port, opening.host_port + last)} at {where} to {to}{who}"
