"""The network that carries an overlay's packets, as this host's routes say. Source: rtnetlink(7), RTM_GETROUTE."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from netplugin.kernel.netlink import Netlink
from netplugin.machine import Way

_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_RTN_UNICAST, _RTN_LOCAL = 1, 2
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL)


def way_to(netlink: Netlink, address: IPv4Address | IPv6Address) -> Way | None:
    """Return the way that a packet to `address` would take now, None if there is none.

    Its MTU is that of the route, which path MTU discovery may have lowered, or else that of the link.
    """
    found: list[Any] = []
    with netlink.request("look up the route to", str(address), ignore=_NO_WAY) as rtnetlink:
        found = list(rtnetlink.route("get", dst=str(address), family=_FAMILY[address.version]))
        if found:
            link = rtnetlink.link("get", index=found[0].get_attr("RTA_OIF"))[0]
    if not found or found[0]["type"] not in (_RTN_UNICAST, _RTN_LOCAL):
        return None
    route = found[0]
    metrics = route.get_attr("RTA_METRICS")
    mtu = (metrics.get_attr("RTAX_MTU") if metrics else 0) or link.get_attr("IFLA_MTU")
    return Way(ip_address(route.get_attr("RTA_PREFSRC")), mtu, route["type"] == _RTN_LOCAL)


def mtu_of(netlink: Netlink, address: IPv4Address | IPv6Address) -> int | None:
    """Return the MTU of the link that bears an address, None if none does."""
    with netlink.request("look up the link of", str(address)) as rtnetlink:
        bearing = [message["index"] for message in rtnetlink.addr("dump", address=str(address))]
        links = [rtnetlink.link("get", index=index)[0] for index in bearing[:1]]
    return int(links[0].get_attr("IFLA_MTU")) if links else None
