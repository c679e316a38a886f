"""One rtnetlink socket, shared by the modules that make links."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netplugin.kernel.neighbour_table import NeighbourTable
from pluginkit.errors import KernelError

_IFF_UP = 1


@dataclass(frozen=True)
class Link:
    """What the kernel says of one link. master: index of the bridge it is a port of, 0 for none."""

    index: int
    name: str
    kind: str
    up: bool
    mtu: int
    mac: str
    master: int
    alias: str
    hairpin: bool
    isolated: bool


class Netlink:
    """An rtnetlink socket, opened when first needed. Threads may share it and take turns, as in the kernel."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._socket: IPRoute | None = None
        self.table = NeighbourTable()

    def close(self) -> None:
        """The sockets are closed; the next request opens another."""
        self.table.close()
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
        """Return the link `name` of this network namespace, or None."""
        found: list[Any] = []
        with self.request("look up", name, ignore=(errno.ENODEV,)) as netlink:
            found = list(netlink.link("get", ifname=name))
        return _link(found[0]) if found else None

    def links(self, kind: str) -> list[Link]:
        """Return the links of `kind`."""
        with self.request("list", f"{kind} links") as netlink:
            found = list(netlink.link("dump", kind=kind))
        return [link for link in map(_link, found) if link.kind == kind]

    def addresses(self, name: str, index: int) -> set[IPv4Interface | IPv6Interface]:
        """Return the addresses of the link of that index; `name` is for errors."""
        with self.request("list addresses of", name) as netlink:
            found = list(netlink.addr("dump", index=index))
        return {
            ip_interface((message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"), message["prefixlen"]))
            for message in found
        }

    def default_mtu(self) -> int | None:
        """Return the MTU of the link of the IPv4 default route, or of the IPv6 one; None without either."""
        for family in (socket.AF_INET, socket.AF_INET6):
            for link in self.ways_out(family):
                return link.mtu
        return None

    def ways_out(self, family: int, protocol: int | None = None) -> list[Link]:
        """Return the links of the default routes, that which the kernel takes first.

        protocol: of the routes that come from it, such as RTPROT_RA.
        """
        with self.request("look up", "the default route") as netlink:
            routes = [route for route in netlink.get_default_routes(family=family) if route.get_attr("RTA_OIF")]
            # The smallest metric, which is 0 if none is given.
            routes.sort(key=lambda route: route.get_attr("RTA_PRIORITY") or 0)
            indexes = [route.get_attr("RTA_OIF") for route in routes if protocol in (None, route["proto"])]
            return [_link(netlink.link("get", index=index)[0]) for index in indexes]


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info else "") or ""
    is_bridge_port = bool(info) and info.get_attr("IFLA_INFO_SLAVE_KIND") == "bridge"
    port = info.get_attr("IFLA_INFO_SLAVE_DATA") if is_bridge_port else None
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=kind,
        up=bool(message["flags"] & _IFF_UP),
        mtu=message.get_attr("IFLA_MTU"),
        mac=message.get_attr("IFLA_ADDRESS") or "",
        master=message.get_attr("IFLA_MASTER") or 0,
        alias=message.get_attr("IFLA_IFALIAS") or "",
        hairpin=bool(port and port.get_attr("IFLA_BRPORT_MODE")),
        isolated=bool(port and port.get_attr("IFLA_BRPORT_ISOLATED")),
    )
