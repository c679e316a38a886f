"""What a network namespace has of pynet's, as text, and what it should have by the plan of the records."""

import json
import re
import time
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from netplugin.firewall import nftables
from netplugin.firewall.backends import BACKENDS, Name
from netplugin.firewall.policy import FAMILIES
from netplugin.kernel.bridge import Bridges
from netplugin.kernel.firewall.activity import Activity
from netplugin.kernel.firewall.by_family import ByFamily
from netplugin.kernel.firewall.iptables import Iptables
from netplugin.kernel.firewall.nfnetlink import Nfnetlink
from netplugin.kernel.firewall.nftables import Nftables
from netplugin.kernel.forwarding import ForwardingSwitch
from netplugin.kernel.links import Veths
from netplugin.kernel.netlink import Netlink
from netplugin.kernel.ports.held import PortHolder
from netplugin.kernel.sysctl import Sysctls
from netplugin.kernel.traffic.redirects import Redirects
from netplugin.kinds import ENDPOINTS, NETWORKS, open_store
from netplugin.plan import plans
from netplugin.records import Endpoint, Network
from netplugin.resources import Bridge, Forwarding, HostPorts, NftPorts, NftRuleset, Redirect, Ruleset, Sysctl, Veth
from pluginkit.reconcile import Resource
from tests.network.sandboxes import Sandbox, command
from tests.serving import Serving

PATIENCE_S = 10.0
COUNTERS = re.compile(r" ?\[[0-9:]+\]")
LISTENS, UNCONNECTED = "0A", "07"


def records(state_dir: Path) -> tuple[list[Network], list[Endpoint], list[str]]:
    """Return the networks, the endpoints, and the IDs of records whose move is not over."""
    store = open_store(state_dir)
    try:
        rows = [*store.rows(NETWORKS), *store.rows(ENDPOINTS)]
    finally:
        store.close()
    settled = [row.current for row in rows if row.current is not None]
    return (
        [record for record in settled if isinstance(record, Network)],
        [record for record in settled if isinstance(record, Endpoint)],
        [row.id for row in rows if row.pending],
    )


def is_as_recorded(serving: Serving, firewall: Name, when: str) -> int:
    """The kernel is as the records say, and no address is there twice; return how many lines of it that was.

    Or it is so soon: a namespace that ended a moment ago takes its link with it.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        networks, endpoints, pending = records(serving.state_dir)
        want, have = expected(tuple(networks), tuple(endpoints), firewall), found()
        if want == have and not pending:
            break
        if time.monotonic() > deadline:
            missing, extra = Counter(want) - Counter(have), Counter(have) - Counter(want)
            pytest.fail(f"{when}: pending {pending}, missing {[*missing]}, extra {[*extra]}\n{serving.log()[-6000:]}")
        time.sleep(0.3)
    addresses = [(one.network_id, address) for one in endpoints for address in (one.address4, one.address6) if address]
    assert len(addresses) == len(set(addresses)), when
    return len(have)


@lru_cache(maxsize=100)
def expected(networks: tuple[Network, ...], endpoints: tuple[Endpoint, ...], firewall: Name) -> list[str]:
    """Return what `found` would, were the records laid into an empty namespace."""
    wanted_of = plans(BACKENDS[firewall])
    parents = {network.id: network for network in networks}
    wanted = [want for network in networks for want in wanted_of.networks.plan(network, None)]
    for endpoint in endpoints:
        wanted += wanted_of.endpoints.plan(endpoint, parents[endpoint.network_id])
    sandbox = Sandbox()
    try:
        lines: list[str] = sandbox.call(lambda: _laid(wanted, firewall))
    finally:
        sandbox.close()
    return lines


def found() -> list[str]:
    """Return the links, rules, tables and held ports of the thread's namespace that are pynet's, sorted."""
    links = json.loads(command("ip", "-json", "-details", "address"))
    lines = [_link(link) for link in links]
    for name in (link["ifname"] for link in links if link["ifname"].startswith("pnv")):
        listed = command("tc", "filter", "show", "dev", name, "ingress")
        lines += [f"filter {name} {part}" for part in re.findall(r"match .*|\w+ Redirect to device \S+", listed)]
    for program in ("iptables-save", "ip6tables-save"):
        saved = [line for line in command(program).splitlines() if "PYNET" in line]
        lines += [f"{program} {COUNTERS.sub('', line)}" for line in saved]
    for family in ("ip", "ip6"):
        listed = command("sh", "-c", f"nft --stateless list table {family} pynet 2>/dev/null || true")
        # Which element of a set comes first, behind the brace, is the kernel's affair.
        lines += [f"{family} {' '.join(part.split())}" for part in re.split(r"[,\n{}]|elements = ", listed)]
    for table, state in (("tcp", LISTENS), ("tcp6", LISTENS), ("udp", UNCONNECTED), ("udp6", UNCONNECTED)):
        rows = map(str.split, Path(f"/proc/thread-self/net/{table}").read_text().splitlines()[1:])
        lines += [f"{table} {row[1]}" for row in rows if row[3] == state]
    lines.append(f"reserved {Path('/proc/sys/net/ipv4/ip_local_reserved_ports').read_text().strip()}")
    return sorted(line for line in lines if line)


def _laid(wanted: list[Resource], firewall: Name) -> list[str]:
    command("ip", "link", "set", "lo", "up")
    netlink, nfnetlink, ports, activity = Netlink(), Nfnetlink(), PortHolder(), Activity()
    nft = ByFamily({family: Nftables(family, nftables.base(family), nfnetlink, activity) for family in FAMILIES})
    base = BACKENDS[firewall].iptables_base
    kernels: dict[type[Any], Any] = {
        Bridge: Bridges(netlink),
        Veth: Veths(netlink),
        Forwarding: ForwardingSwitch(closed=True),
        Sysctl: Sysctls(),
        Redirect: Redirects(netlink),
        HostPorts: ports,
        Ruleset: ByFamily({family: Iptables(family, base(family), activity) for family in FAMILIES}),
        NftRuleset: nft,
        NftPorts: nft,
    }
    try:
        for want in wanted:
            kernels[type(want)].ensure(want)
        return found()
    finally:
        for held in ports.owned():
            ports.remove(held)
        netlink.close()
        nfnetlink.close()


def _link(link: dict[str, Any]) -> str:
    """Return a link in one line; "" if it is none of ours, or an end that the engine has."""
    name = link["ifname"]
    if not name.startswith(("pn-", "pnv")):
        return ""
    addresses = sorted(
        f"{entry['local']}/{entry['prefixlen']}" for entry in link["addr_info"] if entry["scope"] == "global"
    )
    port = link["linkinfo"].get("info_slave_data", {})
    own_mac = link["address"] if name.startswith("pn-") else ""
    traits = (own_mac, link["mtu"], link.get("master", ""), link.get("ifalias", ""), addresses)
    return f"link {name} {traits} hairpin={port.get('hairpin')} isolated={port.get('isolated')}"
