"""The rtnetlink sockets, shared by the modules that make links."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netplugin.kernel.rtnetlink.asking import Asking
from netplugin.kernel.rtnetlink.links import Link, LinkTable
from netplugin.kernel.rtnetlink.neighbours import NeighbourTable
from netplugin.kernel.rtnetlink.qdiscs import Qdisc, qdiscs
from netplugin.kernel.rtnetlink.ways import first_hop
from netplugin.machine import Way
from pluginkit.errors import KernelError

# A root name server of each family, which nobody has a route of its own to. Nothing is sent there.
_ANYWHERE = (IPv4Address("198.41.0.4"), IPv6Address("2001:503:ba3e::2:30"))


class Netlink:
    """One socket for plain messages and one of pyroute2, opened when first needed. Threads take turns at each.

    table, links: neighbours and links of this network namespace.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._socket: IPRoute | None = None
        self._asking = Asking()
        self.table = NeighbourTable(self._asking)
        self.links = LinkTable(self._asking)

    def close(self) -> None:
        """The sockets are closed; the next request opens another."""
        self._asking.close()
        with self._turn:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    @contextmanager
    def request(self, operation: str, subject: str, ignore: tuple[int, ...] = ()) -> Iterator[IPRoute]:
        """Inside the block the socket is this thread's. errno values in `ignore` end the block without an error.

        Raises: KernelError: the kernel refused.
        """
        with self._turn:
            try:
                if self._socket is None:
                    self._socket = IPRoute()
                yield self._socket
            except NetlinkError as exc:
                if exc.code not in ignore:
                    raise KernelError(operation, subject, exc.code) from exc
            except OSError as exc:
                # There is no socket to be had: too many open files.
                raise KernelError(operation, subject, exc.errno or 0) from exc
            finally:
                self._forget_late_answers()

    def _forget_late_answers(self) -> None:
        """What came after its request had ended is gone: pyroute2 keeps it for ever, in a queue that nobody reads."""
        # There is none where the block asked nothing.
        late = getattr(self._socket.asyncore, "msg_queue", None) if self._socket is not None else None
        while late is not None and not late.root.empty():
            late.root.get_nowait()

    def link(self, name: str) -> Link | None:
        """Return the link `name` of this network namespace, or None. Raises: KernelError."""
        return self.links.link(name)

    def qdiscs(self) -> list[Qdisc]:
        """Return the queueing disciplines of all links of this network namespace. Raises: KernelError."""
        return qdiscs(self._asking)

    def way_to(self, address: IPv4Address | IPv6Address) -> Way | None:
        """Return the way that a packet to `address` would take now, None if there is none. Raises: KernelError.

        Its MTU is that of the route, which path MTU discovery may have lowered, or else that of the link.
        """
        hop = first_hop(self._asking, address)
        link = self.links.numbered(hop.index) if hop is not None else None
        return Way(hop.source, hop.mtu or link.mtu, hop.local) if hop is not None and link is not None else None

    def mtu_of(self, address: IPv4Address | IPv6Address) -> int | None:
        """Return the MTU of the link that bears an address, None if none does. Raises: KernelError."""
        link = self.links.bearing(address)
        return link.mtu if link is not None else None

    def default_mtu(self) -> int | None:
        """Return the MTU of the way out by IPv4, or by IPv6; None without either. Raises: KernelError."""
        ways = (self.way_to(address) for address in _ANYWHERE)
        return next((way.mtu for way in ways if way is not None), None)

    def ways_out(self, family: int, protocol: int | None = None) -> list[Link]:
        """Return the links of the default routes, that which the kernel takes first.

        protocol: of the routes that come from it, such as RTPROT_RA.
        """
        with self.request("look up", "the default route") as netlink:
            routes = [route for route in netlink.get_default_routes(family=family) if route.get_attr("RTA_OIF")]
            # The smallest metric, which is 0 if none is given.
            routes.sort(key=lambda route: route.get_attr("RTA_PRIORITY") or 0)
            indexes = [route.get_attr("RTA_OIF") for route in routes if protocol in (None, route["proto"])]
        return [link for link in map(self.links.numbered, indexes) if link is not None]
