"""What decides on this host whether packets of containers get anywhere. Asked by people, never within a request."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

from netplugin.kernel.netlink import Netlink
from netplugin.kernel.probe import families_of_kernel, iptables_is_legacy
from netplugin.machine import HostFacts
from pluginkit.command import run
from pluginkit.errors import CommandError

_FORWARDING = {4: Path("/proc/sys/net/ipv4/ip_forward"), 6: Path("/proc/sys/net/ipv6/conf/all/forwarding")}
# Tables that the legacy iptables has made, without making any by looking.
_LEGACY = {"iptables-legacy": Path("/proc/net/ip_tables_names"), "ip6tables-legacy": Path("/proc/net/ip6_tables_names")}


def host_facts(netlink: Netlink) -> HostFacts:
    """Return what is so now in this network namespace."""
    forwarding = {version for version, path in _FORWARDING.items() if path.exists() and path.read_text().strip() != "0"}
    return HostFacts(
        forwarding=frozenset(forwarding),
        drops=(*_legacy_drops(), *_nft_drops()),
        routes=tuple(_routes(netlink)),
        mtu=netlink.default_mtu(),
    )


def _legacy_drops() -> Iterator[str]:
    """Yield the FORWARD chains of the legacy iptables that drop, where pynet uses the other one."""
    if iptables_is_legacy():
        return
    for program, names in _LEGACY.items():
        if names.exists() and "filter" in names.read_text().split():
            try:
                rules = run([program, "-S", "FORWARD"], timeout_s=10).stdout
            except CommandError:
                continue
            if "-P FORWARD DROP" in rules:
                yield f"the chain FORWARD of {program}"


def _nft_drops() -> Iterator[str]:
    """Yield the chains of nftables that drop, but for FORWARD of iptables, in which pynet has its own rules."""
    try:
        listed = json.loads(run(["nft", "-j", "list", "chains"], timeout_s=10).stdout)["nftables"]
    except (CommandError, ValueError, LookupError):
        return
    for chain in (entry["chain"] for entry in listed if "chain" in entry):
        is_iptables = (chain["table"], chain["name"]) == ("filter", "FORWARD") and chain["family"] in ("ip", "ip6")
        if chain.get("hook") == "forward" and chain.get("policy") == "drop" and not is_iptables:
            yield f"the chain {chain['name']} of the nft table {chain['family']} {chain['table']}"


def _routes(netlink: Netlink) -> Iterator[tuple[str, str]]:
    with netlink.request("list", "links") as asked:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in asked.link("dump")}
    versions = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
    for family in families_of_kernel():
        with netlink.request("list", "routes") as asked:
            routes = list(asked.route("dump", family=versions[family]))
        for route in routes:
            destination, link = route.get_attr("RTA_DST"), route.get_attr("RTA_OIF")
            # The host's own addresses and broadcasts are in the table "local".
            if destination and link and route.get_attr("RTA_TABLE") != _LOCAL:
                yield str(ip_network((destination, route["dst_len"]), strict=False)), names.get(link, "")


_LOCAL = 255
