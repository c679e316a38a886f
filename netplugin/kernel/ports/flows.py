"""The connections that are tracked here, for people to see. Source: linux/netfilter/nfnetlink_conntrack.h."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

from netplugin.kernel.nlattr import attributes, message, messages
from netplugin.machine import Address, Flow
from pluginkit.errors import KernelError

_NETLINK_NETFILTER = 12
_GET, _NLM_F_REQUEST, _NLM_F_DUMP = 1 << 8 | 1, 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_ORIGINAL, _REPLY, _STATUS, _PROTOINFO, _COUNTERS_ORIGINAL, _COUNTERS_REPLY = 1, 2, 3, 4, 9, 10
_IP, _PROTO = 1, 2
_SOURCES, _DESTINATIONS = (1, 3), (2, 4)
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_PACKETS, _BYTES = 1, 2
_SEEN_REPLY = 1 << 1
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp", 132: "sctp"}
# In the order of enum tcp_conntrack.
_TCP = (
    "none", "syn-sent", "syn-received", "established", "fin-wait", "close-wait", "last-ack", "time-wait", "closed",
    "syn-sent",
)  # fmt: skip


def tracked() -> Iterator[Flow]:
    """Yield each connection of this network namespace; whoever has enough may stop. Raises: KernelError."""
    # Family 0: all of them. Version 1, as in conntrack.py.
    body = struct.pack(">BBH", socket.AF_UNSPEC, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.send(message(_GET, _NLM_F_REQUEST | _NLM_F_DUMP, 0, body))
        while True:
            for found in messages(netlink.recv(256 * 1024)):
                if found.kind == _NLMSG_DONE:
                    return
                if found.kind == _NLMSG_ERROR:
                    raise KernelError("list", "connections", -struct.unpack_from("=i", found.body)[0])
                if (flow := _flow(attributes(found.body[4:]))) is not None:
                    yield flow


def _flow(entry: dict[int, bytes]) -> Flow | None:
    original, reply = attributes(entry[_ORIGINAL]), attributes(entry[_REPLY])
    addresses, back = attributes(original[_IP]), attributes(reply[_IP])
    transport, transport_back = attributes(original[_PROTO]), attributes(reply[_PROTO])
    number = transport[_NUMBER][0]
    source, destination, to = (
        _address(addresses, _SOURCES), _address(addresses, _DESTINATIONS), _address(back, _SOURCES),
    )  # fmt: skip
    if source is None or destination is None or to is None:
        return None
    counters = [attributes(entry[kind]) for kind in (_COUNTERS_ORIGINAL, _COUNTERS_REPLY) if kind in entry]
    return Flow(
        _PROTOCOLS.get(number, str(number)),
        source,
        _port(transport, _SOURCE_PORT),
        destination,
        _port(transport, _DESTINATION_PORT),
        to,
        # What answers is what the packets go to.
        _port(transport_back, _SOURCE_PORT),
        _state(number, entry),
        sum(int.from_bytes(each[_PACKETS]) for each in counters) if counters else None,
        sum(int.from_bytes(each[_BYTES]) for each in counters) if counters else None,
    )


def _address(found: dict[int, bytes], kinds: tuple[int, int]) -> Address | None:
    return next((ip_address(found[kind]) for kind in kinds if kind in found), None)


def _port(found: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(found.get(kind, b""))


def _state(number: int, entry: dict[int, bytes]) -> str:
    if number == socket.IPPROTO_TCP and _PROTOINFO in entry:
        # CTA_PROTOINFO_TCP and CTA_PROTOINFO_TCP_STATE are both 1.
        state = attributes(attributes(entry[_PROTOINFO]).get(1, b"")).get(1, b"\0")[0]
        return _TCP[state] if state < len(_TCP) else str(state)
    return "answered" if int.from_bytes(entry.get(_STATUS, b"")) & _SEEN_REPLY else "unanswered"
