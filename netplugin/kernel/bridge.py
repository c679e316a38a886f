"""Bridges. Source: rtnetlink(7); linux/if_link.h."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface

from netplugin.kernel.netlink import Netlink
from netplugin.kernel.rtnetlink.links import Link
from netplugin.resources import Bridge
from pluginkit.errors import Conflict, NotFound

_NAME = re.compile(r"pn-[0-9A-Za-z]{8}")
_ALIAS = "pynet network "
_IFA_F_NODAD = 0x02

Address = IPv4Interface | IPv6Interface


class Bridges:
    """The bridges of this network namespace."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    def ensure(self, want: Bridge) -> None:
        """The bridge exists, is up, and has the wanted MAC, MTU and addresses and, unless adopted, no others."""
        link = self._netlink.link(want.name)
        if want.adopted:
            self._ensure_adopted(want, link)
            return
        if link is None:
            with self._netlink.request("create bridge", want.name, ignore=(errno.EEXIST,)) as socket:
                socket.link("add", ifname=want.name, kind="bridge", address=want.mac, mtu=want.mtu)
            link = self._netlink.link(want.name)
        # A bridge without an alias is ours: we died between making and naming it.
        if link is None or link.kind != "bridge" or link.alias not in ("", want.alias):
            raise Conflict(
                f"cannot create bridge {want.name}: a link of that name exists and belongs to"
                f" {link.alias or 'somebody else' if link else 'nobody'}; rename or delete it"
            )
        self._ensure_addresses(want, link)
        # Last of all up and named: whoever sees the alias sees a bridge that is complete.
        if (link.up, link.mtu, link.mac, link.alias) != (True, want.mtu, want.mac, want.alias):
            # A MAC address that is set, even to what it was, makes the kernel forget all neighbours on the bridge.
            mac = want.mac if link.mac != want.mac else ""
            self._netlink.links.set_up(link.index, want.name, want.mtu, want.alias, mac=mac)

    def remove(self, want: Bridge) -> None:
        """The bridge does not exist; an adopted one is left as it is, without the network's addresses."""
        if want.adopted:
            self._leave(want)
            return
        self._netlink.links.delete(want.name, "delete bridge")

    def owned(self) -> Iterable[Bridge]:
        """Return the bridges with an alias of ours, and those with none but a name that only we give."""
        return [
            Bridge(link.name, link.mac, link.mtu, (), link.alias)
            for link in self._netlink.links.every("bridge")
            if link.alias.startswith(_ALIAS) or (not link.alias and _NAME.fullmatch(link.name))
        ]

    def _ensure_adopted(self, want: Bridge, link: Link | None) -> None:
        if link is None or link.kind != "bridge":
            raise NotFound(f"cannot use bridge {want.name}: it was there when the network was made and is no more")
        have = self._netlink.links.addresses(want.name, link.index)
        self._add_addresses(want, link, [address for address in want.addresses if address not in have])
        if not link.up:
            with self._netlink.request("set up bridge", want.name) as socket:
                socket.link("set", index=link.index, state="up")

    def _leave(self, want: Bridge) -> None:
        link = self._netlink.link(want.name)
        if link is not None:
            have = self._netlink.links.addresses(want.name, link.index)
            self._delete_addresses(want, link, have & set(want.addresses))

    def _ensure_addresses(self, want: Bridge, link: Link) -> None:
        have = self._netlink.links.addresses(want.name, link.index)
        # The link-local address belongs to IPv6 itself.
        stray = [address for address in have if address not in want.addresses and not _is_automatic(address)]
        self._delete_addresses(want, link, stray)
        if stray:
            # The other addresses of a subnet go with its first one.
            have = self._netlink.links.addresses(want.name, link.index)
        self._add_addresses(want, link, [address for address in want.addresses if address not in have])

    def _delete_addresses(self, want: Bridge, link: Link, addresses: Iterable[Address]) -> None:
        for address in addresses:
            with self._netlink.request(f"remove {address} from", want.name, ignore=(errno.EADDRNOTAVAIL,)) as socket:
                socket.addr("del", index=link.index, address=str(address.ip), prefixlen=address.network.prefixlen)

    def _add_addresses(self, want: Bridge, link: Link, addresses: Iterable[Address]) -> None:
        for address in addresses:
            # No duplicate address detection: on a bridge without ports it never ends.
            flags = _IFA_F_NODAD if address.version == 6 else 0
            with self._netlink.request(f"add {address} to", want.name, ignore=(errno.EEXIST,)) as socket:
                socket.addr(
                    "add", index=link.index, address=str(address.ip), prefixlen=address.network.prefixlen, flags=flags
                )


def _is_automatic(address: IPv4Interface | IPv6Interface) -> bool:
    return address.version == 6 and address.is_link_local
