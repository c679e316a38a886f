"""Which way a packet would take: RTM_GETROUTE. Source: rtnetlink(7); linux/rtnetlink.h."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from netplugin.kernel.nlattr import attribute, attributes
from netplugin.kernel.rtnetlink.asking import FAMILY, Asking

_GETROUTE = 26
_RTMSG = struct.Struct("=BBBBBBBBI")
_DST, _OIF, _PREFSRC, _METRICS, _METRIC_MTU = 1, 4, 7, 8, 2
_UNICAST, _LOCAL = 1, 2
_NONE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL)


@dataclass(frozen=True)
class Hop:
    """The first step. mtu: the route's own, which path MTU discovery may have lowered; 0: that of the link is meant."""

    index: int
    source: IPv4Address | IPv6Address
    mtu: int
    local: bool


def first_hop(asking: Asking, address: IPv4Address | IPv6Address) -> Hop | None:
    """Return the first step of a packet to `address` now, None if there is no way. Raises: KernelError."""
    body = _RTMSG.pack(FAMILY[address.version], address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    body += attribute(_DST, address.packed)
    found = asking.one(_GETROUTE, body, "look up the route to", str(address), _NONE)
    if found is None or (kind := _RTMSG.unpack_from(found)[7]) not in (_UNICAST, _LOCAL):
        return None
    have = attributes(found[_RTMSG.size :])
    if _PREFSRC not in have:
        return None  # this host has no address of the family to send from
    mtu = attributes(have.get(_METRICS, b"")).get(_METRIC_MTU, bytes(4))
    [index], [least] = struct.unpack("=I", have[_OIF]), struct.unpack("=I", mtu)
    return Hop(index, ip_address(have[_PREFSRC]), least, kind == _LOCAL)
