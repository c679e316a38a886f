"""Entries of VXLAN devices that say to which host frames go. Source: bridge(8); linux/neighbour.h; RFC 7348."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable
from ipaddress import ip_address

from netplugin.kernel.netlink import Netlink
from netplugin.kernel.overlay.vxlan import NAME
from netplugin.kernel.rtnetlink.links import index_of
from netplugin.kernel.rtnetlink.neighbours import (
    AF_BRIDGE,
    APPEND,
    CREATE,
    NTF_MASTER,
    NTF_SELF,
    NTF_STICKY,
    NUD_NOARP,
    NUD_PERMANENT,
    REPLACE,
    TableEntry,
)
from netplugin.resources import FdbEntry
from pluginkit.errors import NotFound

_EVERYBODY = "00:00:00:00:00:00"


class VxlanFdb:
    """The permanent entries of our VXLAN devices; what a device has learnt by itself is not ours."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._lock = threading.Lock()
        # What `owned` found and `ensure` made since: among thousands only what is missing is written.
        self._have: set[FdbEntry] = set()

    def ensure(self, want: FdbEntry) -> None:
        """Frames to that address are sent to that host, among others if it is the address of everybody.

        Raises: NotFound: there is no such device.
        """
        with self._lock:
            # Those for everybody are few, and what a device lost that had to be made again is noticed with them.
            if want.mac != _EVERYBODY and want in self._have:
                return
        index = index_of(want.link)
        if not index:
            raise NotFound(f"cannot send frames to {want.vtep}: {want.link} is gone; send SIGHUP to restore it")
        mode, operation = APPEND if want.mac == _EVERYBODY else REPLACE, f"send frames to {want.vtep} by"
        self._netlink.table.add(_own(want, index), CREATE | mode, operation, want.link)
        if want.mac != _EVERYBODY:
            # The bridge must know that it is behind this port. What is permanent to a bridge is its own address.
            # Sticky: a container of this host that sends with this address does not get its frames.
            behind = TableEntry(AF_BRIDGE, index, want.mac, state=NUD_NOARP, flags=NTF_MASTER | NTF_STICKY)
            self._netlink.table.add(behind, CREATE | REPLACE, operation, want.link)
        with self._lock:
            self._have.add(want)

    def remove(self, want: FdbEntry) -> None:
        """Frames to that address are not sent to that host."""
        with self._lock:
            self._have.discard(want)
        index, gone = index_of(want.link), (errno.ENOENT, errno.ENODEV)
        if not index:
            return
        operation = f"stop to send frames to {want.vtep} by"
        if self._netlink.table.delete(_own(want, index), operation, want.link, gone) and want.mac != _EVERYBODY:
            # Not if the address is behind another host by now.
            behind = TableEntry(AF_BRIDGE, index, want.mac, state=NUD_NOARP, flags=NTF_MASTER)
            self._netlink.table.delete(behind, operation, want.link, gone)

    def owned(self) -> Iterable[FdbEntry]:
        """Return all permanent entries of our devices, whoever made them."""
        links = {link.index: link.name for link in self._netlink.links.every("vxlan") if NAME.fullmatch(link.name)}
        lines = self._netlink.table.dump(AF_BRIDGE, "list the entries of") if links else []
        lines = [line for line in lines if line.index in links]
        behind = {(line.index, line.mac) for line in lines if line.in_bridge}
        found = {
            FdbEntry(links[line.index], line.mac, str(line.where)): line.mac == _EVERYBODY
            or (line.index, line.mac) in behind
            for line in lines
            if line.where is not None and line.state & NUD_PERMANENT
        }
        with self._lock:
            self._have = {entry for entry, is_whole in found.items() if is_whole}
        return tuple(found)


def _own(want: FdbEntry, index: int) -> TableEntry:
    """Return the device's own part of an entry."""
    return TableEntry(
        AF_BRIDGE, index, want.mac, ip_address(want.vtep), state=NUD_PERMANENT | NUD_NOARP, flags=NTF_SELF
    )
