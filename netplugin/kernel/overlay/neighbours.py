"""Permanent neighbours on our bridges, by which the kernel answers for those on other hosts.

A port with `neigh_suppress` passes no question on to which the bridge knows the answer. Source: ip-neighbour(8).
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable

from netplugin.kernel.netlink import Netlink
from netplugin.kernel.rtnetlink.asking import FAMILY
from netplugin.kernel.rtnetlink.links import index_of
from netplugin.kernel.rtnetlink.neighbours import CREATE, NUD_PERMANENT, REPLACE, TableEntry
from netplugin.resources import Neighbour
from pluginkit.errors import NotFound

_ALIAS = "pynet network "


class Neighbours:
    """The permanent neighbours on the bridges of this network namespace that carry our alias."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._lock = threading.Lock()
        # What `owned` found and `ensure` made since: among thousands only what is missing is written.
        self._have: dict[tuple[str, ...], Neighbour] = {}

    def ensure(self, want: Neighbour) -> None:
        """The bridge knows the address and answers for it.

        Raises: NotFound: there is no such bridge.
        """
        with self._lock:
            if self._have.get(want.key) == want:
                return
        index = index_of(want.link)
        if not index:
            raise NotFound(f"cannot answer for {want.address}: {want.link} is gone; send SIGHUP to restore it")
        self._netlink.table.add(_line(want, index), CREATE | REPLACE, f"answer for {want.address} on", want.link)
        with self._lock:
            self._have[want.key] = want

    def remove(self, want: Neighbour) -> None:
        """The bridge does not answer for the address."""
        with self._lock:
            self._have.pop(want.key, None)
        index, gone = index_of(want.link), (errno.ENOENT, errno.ENODEV)
        if index:
            self._netlink.table.delete(_line(want, index), f"stop to answer for {want.address} on", want.link, gone)

    def owned(self) -> Iterable[Neighbour]:
        """Return all permanent neighbours on our bridges, whoever made them."""
        links = {link.index: link.name for link in self._netlink.links.every("bridge") if link.alias.startswith(_ALIAS)}
        families = FAMILY.values() if links else ()
        lines = [line for family in families for line in self._netlink.table.dump(family, "list the neighbours of")]
        found = [
            Neighbour(links[line.index], line.where, line.mac)
            for line in lines
            if line.index in links and line.state & NUD_PERMANENT and line.mac and line.where is not None
        ]
        with self._lock:
            self._have = {have.key: have for have in found}
        return found


def _line(want: Neighbour, index: int) -> TableEntry:
    return TableEntry(FAMILY[want.address.version], index, want.mac, want.address, state=NUD_PERMANENT)
