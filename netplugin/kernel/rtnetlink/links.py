"""Links and their addresses: RTM_NEWLINK and its like, RTM_GETADDR. Source: rtnetlink(7); linux/if_link.h."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface

from netplugin.kernel.nlattr import NESTED, attribute, attributes, string
from netplugin.kernel.rtnetlink.asking import Asking

_NEWLINK, _DELLINK, _GETLINK, _SETLINK, _GETADDR = 16, 17, 18, 19, 22
_CREATE, _EXCLUSIVE = 0x400, 0x200
_IFINFOMSG, _IFADDRMSG = struct.Struct("=BxHiII"), struct.Struct("=BBBBI")
_ADDRESS, _IFNAME, _MTU, _MASTER, _LINKINFO, _IFALIAS, _EXT_MASK = 1, 3, 4, 10, 18, 20, 29
_KIND, _DATA, _SLAVE_KIND, _SLAVE_DATA = 1, 2, 4, 5
_VETH_PEER = 1
_HAIRPIN, _ISOLATED = 4, 33
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFF_UP, _SKIP_STATS, _AF_BRIDGE, _PROTINFO = 1, 8, 7, 12
_LONGEST_NAME = 15


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


class LinkTable:
    """The links of this network namespace."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def link(self, name: str) -> Link | None:
        """Return the link `name`, or None. Raises: KernelError."""
        if not 0 < len(name.encode()) <= _LONGEST_NAME:
            return None  # there can be none, which the kernel would call a mistake
        body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + string(_IFNAME, name) + _number(_EXT_MASK, _SKIP_STATS)
        found = self._asking.one(_GETLINK, body, "look up", name, (errno.ENODEV,))
        return None if found is None else _link(found)

    def numbered(self, index: int) -> Link | None:
        """Return the link of that index, or None. Raises: KernelError."""
        body = _IFINFOMSG.pack(0, 0, index, 0, 0) + _number(_EXT_MASK, _SKIP_STATS)
        found = self._asking.one(_GETLINK, body, "look up", f"link {index}", (errno.ENODEV,))
        return None if found is None else _link(found)

    def every(self, kind: str = "", master: int = 0) -> list[Link]:
        """Return the links, if so asked of one kind or with one master. Raises: KernelError."""
        body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + _number(_EXT_MASK, _SKIP_STATS)
        body += attribute(_LINKINFO, string(_KIND, kind)) if kind else b""
        body += _number(_MASTER, master) if master else b""
        found = self._asking.all(_GETLINK, body, _link, "list", f"{kind} links".lstrip())
        # A kind that no link has yet may be unknown to the kernel, which then tells of all links.
        return [link for link in found if kind in ("", link.kind) and master in (0, link.master)]

    def add_pair(self, name: str, peer: str, peer_mac: str, mtu: int, master: int) -> bool:
        """A veth pair is there, of which `name` is up and has the master; return whether both names were free.

        Raises: KernelError.
        """
        other = _IFINFOMSG.pack(0, 0, 0, 0, 0) + string(_IFNAME, peer) + _mac(peer_mac) + _number(_MTU, mtu)
        info = string(_KIND, "veth") + attribute(_DATA | NESTED, attribute(_VETH_PEER | NESTED, other))
        body = _IFINFOMSG.pack(0, 0, 0, _IFF_UP, _IFF_UP) + string(_IFNAME, name) + _number(_MTU, mtu)
        body += _number(_MASTER, master) + attribute(_LINKINFO | NESTED, info)
        return self._asking.change(_NEWLINK, _CREATE | _EXCLUSIVE, body, "create veth", name, (errno.EEXIST,))

    def delete(self, name: str, operation: str) -> None:
        """There is no link `name`. Raises: KernelError."""
        body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + string(_IFNAME, name)
        self._asking.change(_DELLINK, 0, body, operation, name, (errno.ENODEV,))

    def set_up(self, index: int, name: str, mtu: int, alias: str, master: int = 0, mac: str = "") -> None:
        """The link of that index is up and so; master 0 and mac "" change nothing. `name` is for errors.

        Raises: KernelError.
        """
        body = _IFINFOMSG.pack(0, 0, index, _IFF_UP, _IFF_UP) + _number(_MTU, mtu) + string(_IFALIAS, alias)
        body += _number(_MASTER, master) if master else b""
        body += _mac(mac) if mac else b""
        self._asking.change(_SETLINK, 0, body, "set up", name)

    def set_port(self, index: int, name: str, *, hairpin: bool, isolated: bool) -> None:
        """The link of that index, a port of a bridge, is so. `name` is for errors. Raises: KernelError."""
        flags = attribute(_HAIRPIN, bytes([hairpin])) + attribute(_ISOLATED, bytes([isolated]))
        body = _IFINFOMSG.pack(_AF_BRIDGE, 0, index, 0, 0) + attribute(_PROTINFO | NESTED, flags)
        self._asking.change(_SETLINK, 0, body, "set the port flags of", name)

    def addresses(self, name: str, index: int) -> set[IPv4Interface | IPv6Interface]:
        """Return the addresses of the link of that index; `name` is for errors. Raises: KernelError."""
        found = self._asking.all(_GETADDR, _IFADDRMSG.pack(0, 0, 0, 0, index), _address, "list addresses of", name)
        return {address for where, address in found if where == index}

    def bearing(self, address: IPv4Address | IPv6Address) -> Link | None:
        """Return a link that has the address, None if none has. Raises: KernelError."""
        body = _IFADDRMSG.pack(0, 0, 0, 0, 0)
        found = self._asking.all(_GETADDR, body, _address, "look up the link of", str(address))
        return next((self.numbered(where) for where, have in found if have.ip == address), None)


def index_of(name: str) -> int:
    """Return the index of a link of this network namespace, 0 if there is none of that name."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def _mac(text: str) -> bytes:
    return attribute(_ADDRESS, bytes.fromhex(text.replace(":", "")))


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _value(value: bytes) -> int:
    return int.from_bytes(value, "little" if struct.pack("=H", 1)[0] else "big")


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = _IFINFOMSG.unpack_from(body)
    have = attributes(body[_IFINFOMSG.size :])
    info = attributes(have.get(_LINKINFO, b""))
    port = attributes(info[_SLAVE_DATA]) if info.get(_SLAVE_KIND) == b"bridge\0" and _SLAVE_DATA in info else {}
    return Link(
        index=index,
        name=_text(have[_IFNAME]),
        kind=_text(info.get(_KIND, b"")),
        up=bool(flags & _IFF_UP),
        mtu=_value(have.get(_MTU, b"")),
        mac=have.get(_ADDRESS, b"").hex(":"),
        master=_value(have.get(_MASTER, b"")),
        alias=_text(have.get(_IFALIAS, b"")),
        hairpin=any(port.get(_HAIRPIN, b"")),
        isolated=any(port.get(_ISOLATED, b"")),
    )


def _address(body: bytes) -> tuple[int, IPv4Interface | IPv6Interface]:
    """Return the index of the link, and the address that it has."""
    _, length, _, _, index = _IFADDRMSG.unpack_from(body)
    have = attributes(body[_IFADDRMSG.size :])
    return index, ip_interface((ip_address(have.get(_IFA_LOCAL) or have[_IFA_ADDRESS]), length))
