"""The backends by name: how each says the same policies as resources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from netplugin.firewall import iptables, nftables
from netplugin.firewall.policy import Opening, Policy
from netplugin.resources import Base, Family
from pluginkit.reconcile import Resource

Name = Literal["iptables", "nftables"]


@dataclass(frozen=True)
class Backend:
    """One way to program the firewall.

    network: resources of one network and family. endpoint: resources of one endpoint's ports in one family.
    iptables_base: what of it stands in iptables.
    """

    network: Callable[[Policy], tuple[Resource, ...]]
    endpoint: Callable[[str, Policy, tuple[Opening, ...]], tuple[Resource, ...]]
    iptables_base: Callable[[Family], Base]


def _iptables_endpoint(endpoint_id: str, policy: Policy, openings: tuple[Opening, ...]) -> tuple[Resource, ...]:
    rules = iptables.endpoint_rules(endpoint_id, policy, openings)
    return () if rules is None else (rules,)


def _nftables_network(policy: Policy) -> tuple[Resource, ...]:
    return nftables.network_rules(policy), iptables.exceptions(policy)


def _nftables_endpoint(endpoint_id: str, policy: Policy, openings: tuple[Opening, ...]) -> tuple[Resource, ...]:
    return nftables.endpoint_ports(endpoint_id, policy, openings)


BACKENDS: dict[Name, Backend] = {
    "iptables": Backend(lambda policy: (iptables.network_rules(policy),), _iptables_endpoint, iptables.base),
    "nftables": Backend(_nftables_network, _nftables_endpoint, iptables.exceptions_base),
}
