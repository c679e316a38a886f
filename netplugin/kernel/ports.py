"""Host ports, held by sockets that nothing ever reaches, so that nobody else can open them.

A TCP port is bound and listened on, behind a socket filter that drops every packet: no connection is accepted in the
moment between holding the port and the rule that forwards it. Source: socket(7) SO_ATTACH_FILTER.
"""

from __future__ import annotations

import array
import errno
import socket
import struct
import threading
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from netplugin.kernel import port_holders
from netplugin.records import Protocol
from netplugin.resources import HostPort
from pluginkit.errors import Conflict, KernelError

_SO_ATTACH_FILTER = 26
_SOCKET_TYPE: dict[Protocol, tuple[int, int]] = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

Address = IPv4Address | IPv6Address


class HostPorts:
    """The ports that this process holds. They are free again the moment it ends, and held again by the next one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[tuple[Protocol, Address, int], tuple[str, socket.socket | None]] = {}

    def ensure(self, want: HostPort) -> None:
        """The port is held for its owner.

        Raises: Conflict: somebody else has it; the message names who, `holder` is the endpoint if it is one of ours.
        """
        place = (want.protocol, want.address, want.port)
        with self._lock:
            if self._held.get(place, ("", None))[0] == want.owner:
                return
            try:
                held = _hold(want.protocol, want.address, want.port)
            except OSError as exc:
                raise self._refusal(want, exc) from exc
            self._held[place] = (want.owner, held)

    def remove(self, want: HostPort) -> None:
        """The port is not held for that owner."""
        place = (want.protocol, want.address, want.port)
        with self._lock:
            owner, held = self._held.get(place, ("", None))
            if owner == want.owner:
                del self._held[place]
                if held is not None:
                    held.close()

    def owned(self) -> Iterable[HostPort]:
        """Return every port that this process holds."""
        with self._lock:
            return [HostPort(*place, owner) for place, (owner, _) in self._held.items()]

    def is_free(self, protocol: Protocol, addresses: Iterable[Address], port: int) -> bool:
        """Tell whether `port` could be held now on all of `addresses`."""
        with self._lock:
            try:
                for address in addresses:
                    held = _hold(protocol, address, port)
                    if held is not None:
                        held.close()
            except OSError:
                return False
            return True

    def ephemeral_range(self) -> range:
        """Return the ports that the kernel gives to those who ask for any. Source: ip(7) ip_local_port_range."""
        first, last = _EPHEMERAL_RANGE.read_text(encoding="ascii").split()
        return range(int(first), int(last) + 1)

    def _refusal(self, want: HostPort, exc: OSError) -> Exception:
        where = f"{want.port}/{want.protocol} on {want.address}"
        if exc.errno == errno.EADDRNOTAVAIL:
            return Conflict(f"cannot publish port {where}: the host has no such address; use one of its own")
        if exc.errno != errno.EADDRINUSE:
            return KernelError("hold port", where, exc.errno or 0)
        for (protocol, address, port), (owner, _) in self._held.items():
            overlaps = address == want.address or address.is_unspecified or want.address.is_unspecified
            if (protocol, port) == (want.protocol, want.port) and address.version == want.address.version and overlaps:
                return Conflict(
                    f"cannot publish port {where}: port is already allocated, to endpoint {owner[:12]} of this driver",
                    holder=owner,
                )
        who = port_holders.describe(want.protocol, want.port)
        return Conflict(f"cannot publish port {where}: port is already allocated, to {who}; free it or use another")


def _hold(protocol: Protocol, address: Address, port: int) -> socket.socket | None:
    """Return a socket that holds the port; None if the kernel has no such protocol, so that nobody can open it."""
    kind, number = _SOCKET_TYPE[protocol]
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        held = socket.socket(family, kind | socket.SOCK_CLOEXEC, number)
    except OSError as exc:
        if exc.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            return None
        raise
    try:
        if address.version == 6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            # Connections that ended a moment ago must not keep their port from its next user.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _drop_all(held)
        held.bind((str(address), port))
        if kind == socket.SOCK_STREAM:
            held.listen(1)
    except BaseException:
        held.close()
        raise
    return held


def _drop_all(held: socket.socket) -> None:
    """No packet reaches `held`: its filter is the one classic BPF instruction "return 0 bytes"."""
    program = array.array("B", struct.pack("HBBI", 0x06, 0, 0, 0))
    address, _ = program.buffer_info()
    held.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HxxxxxxP", 1, address))
