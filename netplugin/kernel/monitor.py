"""Notices from the kernel that something of ours was changed by others.

Source: rtnetlink(7) RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_NETCONF,
RTNLGRP_IPV6_NETCONF; linux/netfilter/nfnetlink.h NFNLGRP_NFTABLES, which iptables-nft causes too. iptables-legacy
and most sysctls give none: hence the canary.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address

from netplugin.kernel.firewall.activity import Activity
from netplugin.kernel.nlattr import Message, attributes, messages

log = logging.getLogger(__name__)

_SO_RCVBUFFORCE, _NOTICES_BYTES = 33, 64 * 1024 * 1024
_NETLINK_ROUTE, _NETLINK_NETFILTER = 0, 12
# Bit n - 1 for RTNLGRP n: links, neighbours, IPv4 and IPv6 addresses, IPv4 and IPv6 forwarding.
_ROUTE_GROUPS = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 8 | 1 << 23 | 1 << 24
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTABLES = 270, 1, 7
_RTM_NEWLINK, _RTM_DELLINK, _RTM_DELADDR, _RTM_NEWNETCONF = 16, 17, 21, 80
_IFLA_IFALIAS, _IFA_ADDRESS, _IFA_LOCAL, _NETCONFA_IFINDEX, _NETCONFA_FORWARDING = 20, 1, 2, 1, 2
_ALL_INTERFACES = struct.pack("=i", -1)
_IFF_UP = 1
_RTM_NEWNEIGH, _RTM_DELNEIGH, _NDA_DST, _NDA_LLADDR, _NDA_MASTER = 28, 29, 1, 2, 9
_NDMSG = struct.Struct("=BxxxiHBx")
_AF_BRIDGE, _NTF_SELF, _NUD_FAILED, _NUD_PERMANENT = 7, 0x02, 0x20, 0x80
_NFT_DELETIONS = {10 << 8 | number for number in (2, 5, 8, 11, 14)}  # table, chain, rule, set, set element
_NFT_MSG_NEWRULE, _NLM_F_APPEND = 10 << 8 | 6, 0x800
_NFTA_RULE_CHAIN, _NFTA_RULE_POSITION = 2, 6
ORDER = "the order of the firewall's rules"
# What begins with one of these is about where frames of overlays go.
ENTRIES = ("the entry ", "the behind ", "the neighbour ")
# A flush comes as hundreds of notices; one repair serves for all of them.
_SETTLE_S = 0.2
_CANARY_S = 5.0

Expected = Callable[[str, str], bool]


class Monitor:
    """Watches this network namespace, from the moment it is made.

    is_expected(kind, name): whether a "link" of that alias, or an "address", should exist by the records, or packets of
    a family be forwarded ("forwarding"); of an overlay, whether it is a fault that an "entry", the bridge's part of it
    ("behind") or a "neighbour" is gone, or ("no entry", "no neighbour") that there is one.
    canary: returns, every five seconds, what others have changed without any notice; "" for nothing.
    """

    def __init__(self, activity: Activity, is_expected: Expected, canary: Callable[[], str]) -> None:
        self._activity = activity
        self._is_expected = is_expected
        self._canary = canary
        self._route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE)
        # What is read from a cluster at once comes faster than it can be looked at.
        self._route.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _NOTICES_BYTES)
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
        due = time.monotonic() + _CANARY_S
        while True:
            select.select([self._route, self._nft], [], [], max(0.0, due - time.monotonic()))
            what = self.look()
            if time.monotonic() >= due:
                what = what or self._canary()
                due = time.monotonic() + _CANARY_S
            if what:
                time.sleep(_SETTLE_S)
                self.look()
                drifted(what)

    def look(self) -> str:
        """Return what of the waiting notices concerns us, in words; "" if nothing does."""
        # First, for who has made them is known for a while only, and entries of thousands of endpoints take longer.
        of_firewall = [self._firewall_notice(message) for message in _waiting(self._nft)]
        notices = list(_waiting(self._route))
        found = self._faults(notices)
        found += [self._link_notice(message.kind, message.body) for message in notices]
        return next(filter(None, [*found, *of_firewall]), "")

    def _link_notice(self, kind: int, body: bytes) -> str:
        if kind < 0:
            return "more than could be read"
        if kind in (_RTM_NEWLINK, _RTM_DELLINK):
            flags = struct.unpack_from("=I", body, 8)[0]
            alias = _text(attributes(body[16:]).get(_IFLA_IFALIAS, b""))
            gone = kind == _RTM_DELLINK or not flags & _IFF_UP
            if alias.startswith("pynet ") and gone and self._is_expected("link", alias):
                what, _, record_id = alias.rpartition(" ")
                return f"the link of {what} {record_id[:12]}"
        if kind == _RTM_DELADDR:
            parts = attributes(body[8:])
            packed = parts.get(_IFA_LOCAL) or parts.get(_IFA_ADDRESS, b"")
            address = str(ip_address(packed)) if len(packed) in (4, 16) else ""
            if address and self._is_expected("address", address):
                return f"the address {address}"
        if kind == _RTM_NEWNETCONF:
            parts = attributes(body[4:])
            # A new interface has its own notice, which says nothing of the host.
            is_off = parts.get(_NETCONFA_FORWARDING) == bytes(4) and parts.get(_NETCONFA_IFINDEX) == _ALL_INTERFACES
            family = "ipv4" if body[0] == socket.AF_INET else "ipv6"
            return f"the forwarding of {family} packets" if is_off and self._is_expected("forwarding", family) else ""
        return ""

    def _faults(self, notices: list[Message]) -> list[str]:
        """Return what is wrong with entries and neighbours, in words; `notices` has then also what came meanwhile."""
        while True:
            found = [
                f"the {fault.removeprefix('no ')} {what.strip()}"
                for fault, what in _neighbour_faults(notices)
                if self._is_expected(fault, what)
            ]
            # What we have changed since is on record by now, and its notice came before that.
            since = list(_waiting(self._route)) if found else []
            if not since:
                return found
            notices += since

    def _firewall_notice(self, notice: Message) -> str:
        kind, body = notice.kind, notice.body
        if kind < 0:
            return "more than could be read"
        if self._activity.is_ours(notice.port):
            return ""
        if kind in _NFT_DELETIONS and (b"PYNET-" in body or b"pynet\0" in body):
            return "the firewall"
        if kind == _NFT_MSG_NEWRULE and _stands_first_in_forward(notice):
            return ORDER if self._is_expected("forwarding", "ipv4") else ""
        return ""


def _neighbour_faults(notices: Iterable[Message]) -> Iterable[tuple[str, str]]:
    """Return what would be faults if they were ours. Of what came and went only the last counts: it is so by now."""
    last: dict[str, tuple[str, str]] = {}
    for notice in notices:
        if notice.kind in (_RTM_NEWNEIGH, _RTM_DELNEIGH):
            fault, what = _neighbour_fault(notice.kind == _RTM_DELNEIGH, notice.body)
            subject = what.rpartition(" ")[0] if fault.endswith("neighbour") else what
            if what:
                last[f"{fault.removeprefix('no ')} {subject}"] = fault, what
    return last.values()


def _neighbour_fault(is_gone: bool, body: bytes) -> tuple[str, str]:
    """Return what it would be if it were ours, and the names in it; "" for what cannot be ours."""
    family, index, state, flags = _NDMSG.unpack_from(body)
    parts = attributes(body[_NDMSG.size :])
    where, mac = parts.get(_NDA_DST, b""), parts.get(_NDA_LLADDR, b"").hex(":")
    try:
        link = socket.if_indextoname(index)
    except OSError:
        # The link is gone, which has a notice of its own.
        return "", ""
    if family == _AF_BRIDGE and link.startswith("pnx"):
        if flags & _NTF_SELF and state & _NUD_PERMANENT and len(where) in (4, 16):
            return "entry" if is_gone else "no entry", f"{link} {mac} {ip_address(where)}"
        return ("behind" if is_gone else "no behind", f"{link} {mac}") if _NDA_MASTER in parts else ("", "")
    if family != _AF_BRIDGE and len(where) in (4, 16) and link.startswith("pn-"):
        address = ip_address(where)
        # One that is deleted fails first, with the MAC address that it had.
        if is_gone or state & _NUD_FAILED:
            return "neighbour", f"{link} {address} "
        return ("no neighbour", f"{link} {address} {mac}") if state & _NUD_PERMANENT else ("", "")
    return "", ""


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
