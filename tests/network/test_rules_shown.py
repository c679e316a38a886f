"""`pynet rules`: every chain that a plan can have is shown, with what it is for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netplugin.admin.rules import rules
from netplugin.firewall.backends import BACKENDS
from netplugin.options import NetworkOptions
from netplugin.plan import plan_endpoint, plan_network
from netplugin.records import Publication
from netplugin.resources import NftRuleset, Ruleset
from tests.network.samples import WEB, WEB_DUAL, endpoint, network

NETWORKS = {
    "usual": network(dual=True),
    "internal": network(internal=True),
    "routed": network(dual=True, options=NetworkOptions(gateway_mode_ipv4="routed", gateway_mode_ipv6="routed")),
    "limited": network(options=NetworkOptions(publish_from=("10.0.0.0/8",))),
    "unprotected": network(options=NetworkOptions(gateway_mode_ipv4="nat-unprotected", icc=False)),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_all_chains_are_shown_in_their_order(backend: str, name: str) -> None:
    wanted = NETWORKS[name]
    published = replace(
        endpoint(WEB_DUAL, dual=True), publications=(Publication(replace(WEB, host_port=9), ("10.1.0.0/16",)),)
    )
    way = BACKENDS[backend]
    planned = [
        (each.family, chain.name, chain.rules)
        for each in (*plan_network(wanted, way), *plan_endpoint(published, wanted, way))
        if isinstance(each, Ruleset | NftRuleset)
        for chain in each.chains
    ]
    shown = rules([(wanted, (published,))], way)
    assert [(each.Family, each.Chain, each.Rules) for each in shown if each.Chain] == planned
    assert all(each.Purpose for each in shown)
    ports = [line for each in shown if not each.Chain for line in each.Rules]
    assert bool(ports) == (backend == "nftables" and name != "internal")
