"""What decides on this host whether packets of containers get anywhere. Asked by people, never within a request."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

from netplugin.kernel.clock import is_synchronised
from netplugin.kernel.netlink import Netlink
from netplugin.kernel.probe import families_of_kernel, iptables_is_legacy
from netplugin.machine import HostFacts
from pluginkit.command import run
from pluginkit.errors import CommandError

_FORWARDING = {4: Path("/proc/sys/net/ipv4/ip_forward"), 6: Path("/proc/sys/net/ipv6/conf/all/forwarding")}
# Tables that the legacy iptables has made, without making any by looking.
_LEGACY = {"iptables-legacy": Path("/proc/net/ip_tables_names"), "ip6tables-legacy": Path("/proc/net/ip6_tables_names")}


def host_facts(netlink: Netlink, peers: Iterable[str] = ()) -> HostFacts:
    """Return what is so now in this network namespace. peers: hosts to which the way is of interest."""
    forwarding = {version for version, path in _FORWARDING.items() if path.exists() and path.read_text().strip() != "0"}
    return HostFacts(
        forwarding=frozenset(forwarding),
        drops=(*_legacy_drops(), *_nft_drops()),
        routes=tuple(_routes(netlink)),
        mtu=netlink.default_mtu(),
        way_out=next((link.name for link in netlink.ways_out(socket.AF_INET)), ""),
        closed=frozenset(_closed()) if 4 in forwarding else frozenset(),
        expiring=tuple(_expiring(netlink)) if 6 in forwarding else (),
        ways={peer: way for peer in peers if (way := netlink.way_to(ip_address(peer))) is not None},
        synchronised=is_synchronised(),
    )


def _closed() -> Iterator[str]:
    for switch in Path("/proc/sys/net/ipv4/conf").glob("*/forwarding"):
        link = switch.parent.name
        if link not in ("all", "default", "lo") and _setting(switch) == "0":
            yield link


def _expiring(netlink: Netlink) -> Iterator[str]:
    """Yield links whose default route came by a router advertisement, of which a host that forwards takes no more."""
    for link in netlink.ways_out(socket.AF_INET6, _RTPROT_RA):
        if _setting(Path(f"/proc/sys/net/ipv6/conf/{link.name}/accept_ra")) == "1":
            yield link.name


def _setting(path: Path) -> str:
    """Return what a sysctl is set to; "" if there is none, as its link has gone meanwhile."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _legacy_drops() -> Iterator[str]:
    """Yield the FORWARD chains of the legacy iptables that drop, where pynet uses the other one."""
    try:
        if iptables_is_legacy():
            return
    except CommandError:
        return  # it does not work at all, which what pynet could not do tells
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
    names = {link.index: link.name for link in netlink.links.every()}
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
_RTPROT_RA = 9
