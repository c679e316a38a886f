"""What links have carried. Source: Documentation/networking/statistics.rst."""

from __future__ import annotations

from dataclasses import fields

from netplugin.kernel.netlink import Netlink
from netplugin.machine import Count

_NAMES = [field.name for field in fields(Count)]


def counts(netlink: Netlink) -> dict[str, Count]:
    """Return what each pair's end on this host has carried since it was made, by name."""
    with netlink.request("read the counters of", "links") as socket:
        found = list(socket.link("dump", kind="veth"))
    stats = {message.get_attr("IFLA_IFNAME"): message.get_attr("IFLA_STATS64") for message in found}
    return {link: Count(*(told[name] for name in _NAMES)) for link, told in stats.items() if told}
