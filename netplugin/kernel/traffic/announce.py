"""Announcements of an endpoint's addresses, so that neighbours forget the MAC that had them before.

They leave by each port of the bridge but the endpoint's own: an advertisement that comes back to it while it still
looks for duplicates of the address would make it give the address up. Source: RFC 5227 section 3, RFC 4861 section
7.2.6; packet(7).
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from netplugin.kernel.netlink import Netlink
from netplugin.kernel.rtnetlink.neighbours import NUD_NOARP, NUD_PERMANENT, NUD_STALE
from pluginkit.errors import KernelError
from pluginkit.log import failure

log = logging.getLogger(__name__)

_ARP, _IPV6 = 0x0806, 0x86DD
_BROADCAST = b"\xff" * 6
_ALL_NODES, _ALL_NODES_MAC = IPv6Address("ff02::1").packed, bytes.fromhex("333300000001")
_ICMPV6, _ADVERTISEMENT, _OVERRIDE, _TARGET_LINK_LAYER = 58, 136, 0x20000000, 2
# A port may go while we send, be down, or have its queue full: the announcement is repeated, and not worth an error.
_UNREACHED = (errno.ENXIO, errno.ENODEV, errno.ENETDOWN, errno.ENOBUFS)


class Announcer:
    """Speaks on the bridges of this network namespace."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._speaker = ThreadPoolExecutor(1, "announcer")

    def close(self) -> None:
        """Everything that was to be announced has been."""
        self._speaker.shutdown()

    def announce_soon(
        self, bridge: str, link: str, mac: str, address4: IPv4Address | None, address6: IPv6Address | None
    ) -> None:
        """The announcement is made while the caller goes on: a bridge may have 1000 ports. A failure is logged."""
        self._speaker.submit(self._try, bridge, link, mac, address4, address6)

    def _try(
        self, bridge: str, link: str, mac: str, address4: IPv4Address | None, address6: IPv6Address | None
    ) -> None:
        try:
            self.announce(bridge, link, mac, address4, address6)
        except Exception as exc:  # noqa: BLE001 - nobody waits for it
            failure(log, exc)

    def announce(
        self, bridge: str, link: str, mac: str, address4: IPv4Address | None, address6: IPv6Address | None
    ) -> None:
        """Whoever is on the bridge, and the host, was told once that the addresses are at `mac`.

        link: the port behind which they are, to which nothing is sent. Without the bridge nobody is there to be told.

        Raises: KernelError: the kernel refused.
        """
        have = self._netlink.link(bridge)
        if have is None:
            return
        hardware = bytes.fromhex(mac.replace(":", ""))
        frames = [_arp(hardware, address4)] if address4 is not None else []
        frames += [_advertisement(hardware, address6)] if address6 is not None else []
        try:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
                for port in self._netlink.links.every(master=have.index):
                    for frame in frames if port.name != link else ():
                        _send(out, port.name, frame)
        except OSError as exc:
            raise KernelError("announce addresses on", bridge, exc.errno or 0) from exc
        for address in (address4, address6):
            if address is not None:
                self._correct(bridge, have.index, address, mac)

    def _correct(self, bridge: str, index: int, address: IPv4Address | IPv6Address, mac: str) -> None:
        """The host's own entry of the address, if it has one that it learnt, is `mac`, to be confirmed on next use."""
        table = self._netlink.table
        have = table.known(index, address, "read the neighbours on", bridge)
        if have is not None and not have.state & (NUD_NOARP | NUD_PERMANENT) and have.mac != mac:
            table.correct(replace(have, mac=mac, state=NUD_STALE, flags=0), "correct a neighbour on", bridge)


def _send(out: socket.socket, port: str, frame: bytes) -> None:
    try:
        out.sendto(frame, (port, 0))
    except OSError as exc:
        if exc.errno not in _UNREACHED:
            raise


def _arp(mac: bytes, address: IPv4Address) -> bytes:
    """Return an ARP announcement: a request for the sender's own address."""
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + mac + address.packed + bytes(6) + address.packed
    return _BROADCAST + mac + struct.pack(">H", _ARP) + body


def _advertisement(mac: bytes, address: IPv6Address) -> bytes:
    """Return an unsolicited neighbour advertisement that overrides what neighbours know."""
    body = struct.pack(">BBHI", _ADVERTISEMENT, 0, 0, _OVERRIDE) + address.packed
    body += struct.pack(">BB", _TARGET_LINK_LAYER, 1) + mac
    checksum = _checksum(address.packed + _ALL_NODES + struct.pack(">II", len(body), _ICMPV6) + body)
    body = body[:2] + struct.pack(">H", checksum) + body[4:]
    header = struct.pack(">IHBB", 6 << 28, len(body), _ICMPV6, 255) + address.packed + _ALL_NODES
    return _ALL_NODES_MAC + mac + struct.pack(">H", _IPV6) + header + body


def _checksum(text: bytes) -> int:
    """Return the Internet checksum of a text of even length. Source: RFC 1071."""
    total: int = sum(struct.unpack(f">{len(text) // 2}H", text))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
