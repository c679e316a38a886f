"""Veth pairs, one end in a bridge, the other for the engine to move. Source: veth(4), rtnetlink(7)."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable

from netplugin.kernel.netlink import Netlink
from netplugin.kernel.rtnetlink.links import Link, index_of
from netplugin.resources import Veth
from pluginkit.errors import Conflict, Exhausted, KernelError, NotFound

_NAME = re.compile(r"pnv[0-9A-Za-z]{8}")
_ALIAS = "pynet endpoint "


class Veths:
    """The veth pairs whose staying end is in this network namespace."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    def ensure(self, want: Veth) -> None:
        """The pair exists and its staying end is up in the bridge; the other end is wherever it is."""
        bridge = index_of(want.bridge)
        if not bridge:
            raise NotFound(f"cannot attach {want.name}: the bridge {want.bridge} is gone; send SIGHUP to restore it")
        link = self._netlink.link(want.name)
        if link is None:
            link = self._create(want, bridge)
        if link.kind != "veth" or link.alias not in ("", want.alias):
            raise Conflict(
                f"cannot create veth {want.name}: a link of that name exists and belongs to"
                f" {link.alias or 'somebody else'}; rename or delete it"
            )
        if (link.up, link.mtu, link.master, link.alias) != (True, want.mtu, bridge, want.alias):
            self._netlink.links.set_up(link.index, want.name, want.mtu, want.alias, bridge)
        if (link.hairpin, link.isolated) != (want.hairpin, want.isolated):
            self._netlink.links.set_port(link.index, want.name, hairpin=want.hairpin, isolated=want.isolated)

    def remove(self, want: Veth) -> None:
        """Neither end exists, in whatever namespace the other one was."""
        self._netlink.links.delete(want.name, "delete veth")

    def owned(self) -> Iterable[Veth]:
        """Return the pairs whose staying end has a name and an alias of ours."""
        return [
            Veth(link.name, "", link.mac, "", link.mtu, link.hairpin, link.isolated, link.alias)
            for link in self._netlink.links.every("veth")
            if _NAME.fullmatch(link.name) and (not link.alias or link.alias.startswith(_ALIAS))
        ]

    def _create(self, want: Veth, bridge_index: int) -> Link:
        try:
            self._netlink.links.add_pair(want.name, want.peer, want.peer_mac, want.mtu, bridge_index)
        except KernelError as exc:
            if exc.code == errno.EXFULL:
                self.remove(want)
                raise Exhausted(
                    f"cannot attach {want.name}: bridge {want.bridge} has 1023 ports, and the kernel allows no more;"
                    " use a second network"
                ) from exc
            raise
        link = self._netlink.link(want.name)
        if link is None:
            raise Conflict(f"cannot create veth {want.name}: a link named {want.peer} exists already; delete it")
        return link
