"""Entries of connection tracking that lead packets where they no longer belong.

A UDP flow has no end that the kernel could see: while its client goes on sending, its entry lives for ever, and with it
the translation that was right when it began. Source: linux/netfilter/nfnetlink_conntrack.h; CTA_FILTER, Linux 5.8.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from netplugin.kernel.nlattr import NESTED, attribute, attributes, message, messages
from netplugin.records import Protocol
from pluginkit.errors import KernelError

Address = IPv4Address | IPv6Address

_NETLINK_NETFILTER = 12
_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TUPLE_ORIG, _FILTER, _FILTER_ORIG_FLAGS = 1, 25, 1
_TUPLE_IP, _TUPLE_PROTO, _PROTO_NUM, _PROTO_DST_PORT = 1, 2, 1, 3
_IP_DST: dict[int, int] = {4: 2, 6: 4}
_F_IP_DST, _F_PROTO_NUM, _F_DST_PORT = 1 << 1, 1 << 3, 1 << 5
_NUMBER: dict[Protocol, int] = {"tcp": 6, "udp": 17, "sctp": 132}
# Each filtered deletion walks the whole table; for more ports than this one walk of our own is less.
_MOST_FILTERS = 8


class Conntrack:
    """The connections tracked in this network namespace."""

    def forget(self, protocol: Protocol, host: Address, first: int, count: int) -> None:
        """No entry began as a packet to one of the ports of `host`, which may be the unspecified address for all.

        Raises: KernelError: the kernel refused.
        """
        family = socket.AF_INET if host.version == 4 else socket.AF_INET6
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
            ports: Iterable[int] = range(first, first + count)
            if count > _MOST_FILTERS:
                ports = _ports_in_use(netlink, family, protocol) & set(ports)
            for port in ports:
                _delete(netlink, family, protocol, host, port)


def _delete(netlink: socket.socket, family: int, protocol: Protocol, host: Address, port: int) -> None:
    flags = _F_PROTO_NUM | _F_DST_PORT
    original = b""
    if not host.is_unspecified:
        flags |= _F_IP_DST
        original = attribute(_TUPLE_IP | NESTED, attribute(_IP_DST[host.version], host.packed))
    number = attribute(_PROTO_NUM, bytes([_NUMBER[protocol]]))
    original += attribute(_TUPLE_PROTO | NESTED, number + attribute(_PROTO_DST_PORT, struct.pack(">H", port)))
    body = _header(family) + attribute(_TUPLE_ORIG | NESTED, original) + _filter(flags)
    netlink.send(message(_DELETE, _NLM_F_REQUEST | _NLM_F_ACK, 0, body))
    [answer] = messages(netlink.recv(64 * 1024))
    code = -struct.unpack_from("=i", answer.body)[0]
    if code:
        raise KernelError("forget connections to", f"{host} {port}/{protocol}", code)


def _ports_in_use(netlink: socket.socket, family: int, protocol: Protocol) -> set[int]:
    """Return the ports that tracked flows of `protocol` were first sent to."""
    number = attribute(_TUPLE_PROTO | NESTED, attribute(_PROTO_NUM, bytes([_NUMBER[protocol]])))
    body = _header(family) + attribute(_TUPLE_ORIG | NESTED, number) + _filter(_F_PROTO_NUM)
    netlink.send(message(_GET, _NLM_F_REQUEST | _NLM_F_DUMP, 0, body))
    ports: set[int] = set()
    while True:
        for found in messages(netlink.recv(256 * 1024)):
            if found.kind == _NLMSG_DONE:
                return ports
            if found.kind == _NLMSG_ERROR:
                raise KernelError("list connections of", protocol, -struct.unpack_from("=i", found.body)[0])
            original = attributes(attributes(found.body[4:]).get(_TUPLE_ORIG, b""))
            port = attributes(original.get(_TUPLE_PROTO, b"")).get(_PROTO_DST_PORT)
            if port:
                ports.add(int.from_bytes(port))


def _header(family: int) -> bytes:
    # Version 1: the kernel heeds the family.
    return struct.pack(">BBH", family, 1, 0)


def _filter(flags: int) -> bytes:
    return attribute(_FILTER | NESTED, attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", flags)))
