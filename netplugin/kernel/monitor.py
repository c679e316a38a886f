"""Notices from the kernel that something of ours was changed by others.

Source: rtnetlink(7) RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_NETCONF; linux/netfilter/
nfnetlink.h NFNLGRP_NFTABLES, which iptables-nft causes too. iptables-legacy and most sysctls give no notice: the timer
of the service finds those.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address

from netplugin.kernel.firewall.activity import Activity
from netplugin.kernel.nlattr import Message, attributes, messages

log = logging.getLogger(__name__)

_NETLINK_ROUTE, _NETLINK_NETFILTER = 0, 12
# Bit n - 1 for RTNLGRP n: links, IPv4 and IPv6 addresses, IPv4 forwarding.
_ROUTE_GROUPS = 1 << 0 | 1 << 4 | 1 << 8 | 1 << 23
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTABLES = 270, 1, 7
_RTM_NEWLINK, _RTM_DELLINK, _RTM_DELADDR, _RTM_NEWNETCONF = 16, 17, 21, 80
_IFLA_IFALIAS, _IFA_ADDRESS, _IFA_LOCAL, _NETCONFA_FORWARDING = 20, 1, 2, 2
_IFF_UP = 1
_NFT_DELETIONS = {10 << 8 | number for number in (2, 5, 8, 11, 14)}  # table, chain, rule, set, set element
_NFT_MSG_NEWRULE, _NLM_F_APPEND = 10 << 8 | 6, 0x800
_NFTA_RULE_CHAIN, _NFTA_RULE_POSITION = 2, 6
# A flush comes as hundreds of notices; one repair serves for all of them.
_SETTLE_S = 0.2

Expected = Callable[[str, str], bool]


class Monitor:
    """Watches this network namespace, from the moment it is made.

    is_expected(kind, name): whether a "link" of that alias, or an "address", should exist by the records.
    """

    def __init__(self, activity: Activity, is_expected: Expected) -> None:
        self._activity = activity
        self._is_expected = is_expected
        self._route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE)
        self._route.bind((0, _ROUTE_GROUPS))
        self._nft = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._nft.bind((0, 0))
        try:
            self._nft.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        except OSError as exc:
            log.warning("changes of the firewall by others are found by the timer only: %s", exc.strerror)

    def close(self) -> None:
        """Nothing is watched any more."""
        self._route.close()
        self._nft.close()

    def run(self, drifted: Callable[[str], None]) -> None:
        """Never returns: `drifted` is called, with what it was in words, whenever others changed what is ours."""
        while True:
            select.select([self._route, self._nft], [], [])
            if what := self.look():
                time.sleep(_SETTLE_S)
                self.look()
                drifted(what)

    def look(self) -> str:
        """Return what of the waiting notices concerns us, in words; "" if nothing does."""
        found = [self._link_notice(message.kind, message.body) for message in _waiting(self._route)]
        found += [self._firewall_notice(message) for message in _waiting(self._nft)]
        return next(filter(None, found), "")

    def _link_notice(self, kind: int, body: bytes) -> str:
        if kind < 0:
            return "more than could be read"
        if kind in (_RTM_NEWLINK, _RTM_DELLINK):
            flags = struct.unpack_from("=I", body, 8)[0]
            alias = _text(attributes(body[16:]).get(_IFLA_IFALIAS, b""))
            gone = kind == _RTM_DELLINK or not flags & _IFF_UP
            if alias.startswith("pynet ") and gone and self._is_expected("link", alias):
                return f"the link of {alias}"
        if kind == _RTM_DELADDR:
            parts = attributes(body[8:])
            packed = parts.get(_IFA_LOCAL) or parts.get(_IFA_ADDRESS, b"")
            address = str(ip_address(packed)) if len(packed) in (4, 16) else ""
            if address and self._is_expected("address", address):
                return f"the address {address}"
        if kind == _RTM_NEWNETCONF and attributes(body[4:]).get(_NETCONFA_FORWARDING) == bytes(4):
            return "the forwarding of packets" if self._is_expected("forwarding", "") else ""
        return ""

    def _firewall_notice(self, notice: Message) -> str:
        kind, body = notice.kind, notice.body
        if kind < 0:
            return "more than could be read"
        if self._activity.is_ours(notice.port):
            return ""
        if kind in _NFT_DELETIONS and (b"PYNET-" in body or b"pynet\0" in body):
            return "the firewall"
        if kind == _NFT_MSG_NEWRULE and _stands_first_in_forward(notice):
            return "the order of the firewall's rules" if self._is_expected("forwarding", "") else ""
        return ""


def _stands_first_in_forward(notice: Message) -> bool:
    """Tell whether a new rule stands before ours: dockerd puts what lets its containers out there, into ours too."""
    if notice.flags & _NLM_F_APPEND:
        return False
    parts = attributes(notice.body[4:])
    return _text(parts.get(_NFTA_RULE_CHAIN, b"")) == "FORWARD" and _NFTA_RULE_POSITION not in parts


def _waiting(netlink: socket.socket) -> Iterator[Message]:
    """Yield the messages that have arrived; a negative kind for those that were lost."""
    while True:
        try:
            text = netlink.recv(256 * 1024, socket.MSG_DONTWAIT)
        except OSError as exc:
            if exc.errno == errno.ENOBUFS:
                yield Message(-1, 0, 0, 0, b"")
                continue
            return
        yield from messages(text)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")
