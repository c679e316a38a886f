"""Questions about the machine that a verb asks before it decides."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal

from netplugin.kernel.netlink import Netlink
from netplugin.kernel.overlay.tunnel import lack
from netplugin.kernel.ports.held import PortHolder
from netplugin.kernel.rtnetlink.links import index_of
from netplugin.machine import Way
from netplugin.records import Protocol
from netplugin.resources import Family
from pluginkit.command import run
from pluginkit.errors import CommandError

_IPV6 = Path("/proc/net/if_inet6")


class HostProbe:
    """Answers from the kernel modules that would do the work."""

    def __init__(self, ports: PortHolder, netlink: Netlink) -> None:
        self._ports = ports
        self._netlink = netlink

    def is_free(self, protocol: Protocol, addresses: Iterable[IPv4Address | IPv6Address], port: int) -> bool:
        """Tell whether a host port could be held on all of `addresses`."""
        return self._ports.is_free(protocol, addresses, port)

    def ephemeral_range(self) -> range:
        """Return the ports to choose from when any will do."""
        return self._ports.ephemeral_range()

    def link_index(self, name: str) -> int:
        """Return the index of a link of this namespace, 0 if there is none of that name."""
        return index_of(name)

    def addresses_of(self, name: str) -> tuple[str, ...]:
        """Return the addresses of a link, with their prefix lengths; () if there is no such link."""
        link = self._netlink.link(name)
        return tuple(sorted(map(str, self._netlink.links.addresses(name, link.index)))) if link else ()

    def default_mtu(self) -> int | None:
        """Return the MTU of the way out, None if there is none."""
        return self._netlink.default_mtu()

    def way_to(self, address: IPv4Address | IPv6Address) -> Way | None:
        """Return the way to an address, None if there is none."""
        return self._netlink.way_to(address)

    def tunnel_lack(self) -> str:
        """Return what this host lacks for encrypted overlays, and how it gets it; "" if it lacks nothing."""
        return lack(self._netlink)

    def sandbox_is_gone(self, key: str) -> bool:
        """Tell whether the engine has removed the file of a sandbox; false where its directory cannot be seen."""
        path = Path(key)
        return bool(key) and path.parent.is_dir() and not path.exists()


def iptables_is_legacy() -> bool:
    """Tell whether the iptables program is iptables-legacy, which does not work over nf_tables."""
    return "legacy" in run(["iptables", "--version"], timeout_s=10).stdout


def firewall() -> Literal["iptables", "nftables"]:
    """Return "nftables" if this kernel and the nft program can do all that is needed, else "iptables"."""
    sample = (
        "add table ip pynet_probe\n"
        "add map ip pynet_probe m { type inet_proto . inet_service : ipv4_addr; flags interval; }\n"
        "add chain ip pynet_probe c { type nat hook prerouting priority -105; }\n"
        "add rule ip pynet_probe c fib daddr type local dnat ip to meta l4proto . th dport map @m\n"
    )
    try:
        run(["nft", "--check", "-f", "-"], stdin=sample, timeout_s=10)
    except CommandError:
        return "iptables"
    return "nftables"


def families_of_kernel() -> tuple[Family, ...]:
    """Return the families that this kernel has: IPv6 may be compiled out or switched off at boot."""
    return ("ipv4", "ipv6") if _IPV6.exists() else ("ipv4",)
