"""Frames that come in by a port of a bridge and go elsewhere first. Source: tc-u32(8), tc-mirred(8), linux/rtnetlink.h.

To an ifb device: the kernel queues only what leaves, so it sends them through its own queue and back to where they came
from; they enter the bridge after that, so iptables sees them once, as always. (Redirected behind the bridge they would
lose the connection that br_netfilter has found for them, and with it every translation.)

To the bridge itself: as if they had come through it, which br_netfilter does not see. It would translate them inside
the bridge, where bridged frames pass iptables, and then they go from port to port, which isolated ports refuse.
"""

from __future__ import annotations

import errno
import socket
import struct
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from netplugin.kernel.netlink import Netlink
from netplugin.kernel.nlattr import NESTED, attribute, message, messages, string
from netplugin.kernel.rtnetlink.links import Link
from netplugin.resources import Redirect
from pluginkit.errors import KernelError, NotFound

# "PY": the priority that nobody else gives his filters.
_MARK = 0x5059
# The ingress side of the ingress qdisc; also that of clsact, should an administrator have put one there.
_INGRESS = 0xFFFFFFF2
_EVERY_PROTOCOL = 3  # ETH_P_ALL

_RTM_NEWTFILTER, _NLMSG_ERROR = 44, 2
_REQUEST_ACK_CREATE_EXCL = 0x1 | 0x4 | 0x400 | 0x200
_TCMSG = struct.Struct("=BxxxiIII")
_KIND, _OPTIONS, _CLASS, _SEL, _ACT, _ACT_KIND, _ACT_OPTIONS, _PARMS = 1, 2, 1, 5, 7, 1, 2, 2
_STOLEN, _EGRESS_REDIRECT, _INGRESS_REDIRECT = 4, 1, 3
_NUD_NOARP = 0x40


class _Key(NamedTuple):
    """A word that a frame must have: at an offset from the network header, big-endian."""

    value: int
    mask: int
    offset: int


_Match = tuple[_Key, ...]


class Redirects:
    """The redirected ports of this network namespace."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    def ensure(self, want: Redirect) -> None:
        """The wanted frames, and no others, go to where they are wanted.

        Raises: NotFound: there is no such link, or none of those that it names.
        """
        link, to = self._link(want, want.link), self._link(want, want.to)
        bridge = self._link(want, want.bridge) if want.bridge else None
        if want.to == want.bridge:
            self._look_like(link, to)
            self._know(link, to, want.mac)
        with self._netlink.request("add an ingress qdisc to", link.name, ignore=(errno.EEXIST,)) as netlink:
            netlink.tc("add", "ingress", index=link.index)
        matches = _matches(want, bridge)
        found = [_read(one) for one in self._filters(link) if _is_ours(one)]
        # u32 lists its hash tables as well, which lead nowhere.
        if {one for one in found if any(one)} == {(_class(match), to.index) for match in matches}:
            return
        if found:
            self._remove_filters(link)
        for match in matches:
            _add(link, match, to.index, _INGRESS_REDIRECT if want.to == want.bridge else _EGRESS_REDIRECT)

    def remove(self, want: Redirect) -> None:
        """Frames of the link, if it exists, go where they would without us."""
        link = self._netlink.link(want.link)
        if link is None:
            return
        filters = self._filters(link)
        if not any(map(_is_ours, filters)):
            return
        self._remove_filters(link)
        if all(map(_is_ours, filters)):
            # EINVAL: it is not an ingress qdisc but a clsact one, which we never made.
            with self._netlink.request(
                "delete the ingress qdisc of", link.name, ignore=(errno.ENOENT, errno.EINVAL, errno.ENODEV)
            ) as netlink:
                netlink.tc("del", "ingress", index=link.index)

    def owned(self) -> Iterable[Redirect]:
        """Return a redirect for each link that has a filter of ours, without saying which frames go where."""
        indices = {qdisc.index for qdisc in self._netlink.qdiscs() if qdisc.kind in ("ingress", "clsact")}
        found = [link for link in self._netlink.links.every() if link.index in indices] if indices else []
        return [Redirect(link.name, "") for link in found if any(map(_is_ours, self._filters(link)))]

    def _link(self, want: Redirect, name: str) -> Link:
        link = self._netlink.link(name)
        if link is None:
            raise NotFound(
                f"cannot redirect frames of {want.link} to {want.to}: {name} is gone; send SIGHUP to restore it"
            )
        return link

    def _look_like(self, link: Link, bridge: Link) -> None:
        # A frame to the MAC of the device by which it comes is one for this host; others no host takes.
        if link.mac != bridge.mac:
            with self._netlink.request("set the MAC address of", link.name) as netlink:
                netlink.link("set", index=link.index, address=bridge.mac)

    def _know(self, link: Link, bridge: Link, mac: str) -> None:
        # The bridge learns from frames that come through it. What it does not know it sends to every port.
        with self._netlink.request("enter the MAC address behind", link.name) as netlink:
            netlink.fdb("replace", ifindex=link.index, lladdr=mac, NDA_MASTER=bridge.index, state=_NUD_NOARP)

    def _filters(self, link: Link) -> list[Any]:
        found: list[Any] = []
        # EINVAL: the link has no ingress qdisc.
        with self._netlink.request("list filters of", link.name, ignore=(errno.EINVAL, errno.ENODEV)) as netlink:
            found += netlink.get_filters(index=link.index, parent=_INGRESS)
        return found

    def _remove_filters(self, link: Link) -> None:
        with self._netlink.request(
            "stop redirecting frames of", link.name, ignore=(errno.ENOENT, errno.ENODEV)
        ) as netlink:
            # The info word of a filter: its priority, and no protocol.
            netlink.tc("del-filter", index=link.index, parent=_INGRESS, info=_MARK << 16)


def _matches(want: Redirect, bridge: Link | None) -> list[_Match]:
    """Return what frames must be like to be redirected: each like one of these."""
    if bridge is None:
        return [(_Key(0, 0, 0),)]
    to_bridge = bytes.fromhex(bridge.mac.replace(":", ""))
    destination = (_word(b"\0\0" + to_bridge[:2], -16, 0xFFFF), _word(to_bridge[2:], -12))
    if not want.mac:
        return [destination]
    source = bytes.fromhex(want.mac.replace(":", ""))
    return [
        (*destination, _word(source[:4], -8), _word(source[4:] + ethertype, -4), *_words(address.packed, offset))
        for address in want.addresses
        for ethertype, offset in ((b"\x08\x00", 12) if address.version == 4 else (b"\x86\xdd", 8),)
    ]


def _words(value: bytes, offset: int) -> tuple[_Key, ...]:
    return tuple(_word(value[start : start + 4], offset + start) for start in range(0, len(value), 4))


def _word(value: bytes, offset: int, mask: int = 0xFFFFFFFF) -> _Key:
    return _Key(int.from_bytes(value), mask, offset)


def _is_ours(filter_: Any) -> bool:
    return bool(filter_["info"] >> 16 == _MARK)


def _class(match: _Match) -> int:
    """Return what stands for the match in its filter: pyroute2 cannot read the words themselves."""
    return zlib.crc32(repr(match).encode())


def _read(filter_: Any) -> tuple[int, int]:
    """Return the class of a filter and the index of the device to which it sends frames; 0 if it has none."""
    options = filter_.get_attr("TCA_OPTIONS")
    actions = options.get_attr("TCA_U32_ACT") if options else None
    action = actions.get_attr("TCA_ACT_PRIO_1") if actions else None
    mirred = action.get_attr("TCA_ACT_OPTIONS") if action else None
    parameters = mirred.get_attr("TCA_MIRRED_PARMS") if mirred else None
    return (options.get_attr("TCA_U32_CLASSID") or 0) if options else 0, parameters["ifindex"] if parameters else 0


def _add(link: Link, match: _Match, to: int, action: int) -> None:
    """The filter stands behind those that are there. pyroute2 has no words for what stands before the network header.

    Raises: KernelError: the kernel refused.
    """
    keys = b"".join(struct.pack("!II", key.mask, key.value) + struct.pack("=ii", key.offset, 0) for key in match)
    selector = struct.pack("=BBBxHHhhI", 1, 0, len(match), 0, 0, 0, 0, 0) + keys
    parameters = struct.pack("=IIiiiII", 0, 0, _STOLEN, 0, 0, action, to)
    mirred = string(_ACT_KIND, "mirred") + attribute(_ACT_OPTIONS | NESTED, attribute(_PARMS, parameters))
    options = attribute(_CLASS, struct.pack("=I", _class(match)))
    options += attribute(_SEL, selector) + attribute(_ACT | NESTED, attribute(1 | NESTED, mirred))
    head = _TCMSG.pack(0, link.index, 0, _INGRESS, _MARK << 16 | socket.htons(_EVERY_PROTOCOL))
    body = head + string(_KIND, "u32") + attribute(_OPTIONS | NESTED, options)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as netlink:
        netlink.send(message(_RTM_NEWTFILTER, _REQUEST_ACK_CREATE_EXCL, 1, body))
        for answer in messages(netlink.recv(65536)):
            (code,) = struct.unpack_from("=i", answer.body)
            if answer.kind == _NLMSG_ERROR and code:
                raise KernelError("redirect frames of", link.name, -code)
