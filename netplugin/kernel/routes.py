"""What the host already uses: networks that a new pool must keep clear of. Source: rtnetlink(7), resolv.conf(5)."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from netplugin.ipam.pools import IPNetwork
from netplugin.kernel.netlink import Netlink

# systemd-resolved names only itself in the first one.
RESOLVER_FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))

# Wider routes lead to everywhere, like the default route that VPNs like to cut in two: the route of any network beats
# them, and if they counted no pool would be left.
_SHORTEST_PREFIX = {4: 8, 6: 16}


class HostNetworks:
    """The networks in use in this network namespace, asked anew each time."""

    def __init__(self, netlink: Netlink, resolver_files: Iterable[Path] = RESOLVER_FILES) -> None:
        self._netlink = netlink
        self._resolver_files = tuple(resolver_files)

    def networks(self) -> frozenset[IPNetwork]:
        """Return the destinations of all routes in all tables, the networks of all addresses, and the name servers."""
        found = {*self._routes(), *self._addresses(), *self._name_servers()}
        return frozenset(network for network in found if network.prefixlen >= _SHORTEST_PREFIX[network.version])

    def _routes(self) -> Iterator[IPNetwork]:
        for family in (socket.AF_INET, socket.AF_INET6):
            with self._netlink.request("list", "routes") as netlink:
                messages = list(netlink.route("dump", family=family))
            for message in messages:
                destination = message.get_attr("RTA_DST")
                if destination:
                    yield ip_network((destination, message["dst_len"]), strict=False)

    def _addresses(self) -> Iterator[IPNetwork]:
        with self._netlink.request("list", "addresses") as netlink:
            messages = list(netlink.addr("dump"))
        for message in messages:
            # On a point-to-point link IFA_ADDRESS is the other end, and the prefix is the other end's.
            for attribute in ("IFA_ADDRESS", "IFA_LOCAL"):
                address = message.get_attr(attribute)
                if address:
                    yield ip_interface((address, message["prefixlen"])).network

    def _name_servers(self) -> Iterator[IPNetwork]:
        for path in self._resolver_files:
            try:
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError:
                continue
            for words in map(str.split, lines):
                if len(words) > 1 and words[0] == "nameserver":
                    try:
                        yield ip_network(ip_address(words[1].partition("%")[0]))
                    except ValueError:
                        continue
