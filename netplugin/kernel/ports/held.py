"""Host ports, held by sockets that nothing ever reaches, so that nobody else can open them.

A TCP port is bound and listened on, behind a socket filter that drops every packet: no connection is accepted in the
moment between holding the port and the rule that forwards it. Source: socket(7) SO_ATTACH_FILTER.
"""

from __future__ import annotations

import array
import errno
import resource
import socket
import struct
import threading
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from netplugin.kernel.ports import owners, reserved
from netplugin.records import Protocol
from netplugin.resources import HostPorts
from pluginkit.errors import Conflict, KernelError, PluginError

_SO_ATTACH_FILTER = 26
# A socket for each port of a long run would cost more than the run is worth, and the process its descriptors.
_MOST_SOCKETS = 64
_SOCKET_TYPE: dict[Protocol, tuple[int, int]] = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

Address = IPv4Address | IPv6Address


class PortHolder:
    """The ports that this process holds. They are free again the moment it ends, and held again by the next one.

    A long run is not held by sockets, of which it would take thousands: it is kept from those who ask the kernel for
    any port, and refused if anybody has one of its ports now. Source: ip-sysctl.rst, ip_local_reserved_ports.
    ephemeral: the ports to choose from when any will do; None: those that the kernel chooses from.
    """

    def __init__(self, ephemeral: range | None = None) -> None:
        self._ephemeral = ephemeral
        self._lock = threading.Lock()
        self._held: dict[HostPorts, list[socket.socket]] = {}
        # Among ten thousand ports those in the way of one more are found without a look at each.
        self._short: dict[tuple[Protocol, int], set[HostPorts]] = {}
        self._long: set[HostPorts] = set()

    def ensure(self, want: HostPorts) -> None:
        """The ports are held for their owner.

        Raises: Conflict: somebody else has one; the message names who, `holder` is the endpoint if it is one of ours.
        """
        with self._lock:
            if want in self._held:
                return
            overlapping = self._overlapping(want)
            for have in overlapping:
                if have.owner != want.owner:
                    raise _taken(want, f"endpoint {have.owner[:12]} of this driver", have.owner)
            for have in overlapping:
                # The owner's own former run is in the way of what replaces it.
                self._release(have)
            if want.count > _MOST_SOCKETS:
                if who := owners.describe_run(want.protocol, want.port, want.count):
                    raise _taken(want, who)
                reserved.add(want.port, want.count)
                self._held[want] = []
                self._long.add(want)
            else:
                self._held[want] = _hold_all(want)
                for port in _numbers(want):
                    self._short.setdefault((want.protocol, port), set()).add(want)

    def remove(self, want: HostPorts) -> None:
        """The ports are not held for that owner."""
        with self._lock:
            self._release(want)

    def _release(self, have: HostPorts) -> None:
        sockets = self._held.pop(have, None)
        if have.count > _MOST_SOCKETS:
            # A reservation outlives the process that made it; and it is for all protocols and addresses at once.
            self._long.discard(have)
            reserved.remove(set(_numbers(have)).difference(*map(_numbers, self._long)))
            return
        if sockets is None:
            return
        for held in sockets:
            held.close()
        for port in _numbers(have):
            self._short[have.protocol, port].remove(have)
            if not self._short[have.protocol, port]:
                del self._short[have.protocol, port]

    def _overlapping(self, want: HostPorts) -> list[HostPorts]:
        """Return what is held of the ports of `want`."""
        near = (self._short.get((want.protocol, port), ()) for port in _numbers(want))
        return [have for have in self._long.union(*near) if _overlap(have, want)]

    def owned(self) -> Iterable[HostPorts]:
        """Return every run that this process holds."""
        with self._lock:
            return list(self._held)

    def is_free(self, protocol: Protocol, addresses: Iterable[Address], port: int) -> bool:
        """Tell whether `port` could be held now on all of `addresses`."""
        wanted = [HostPorts(protocol, address, port, "") for address in addresses]
        with self._lock:
            if any(map(self._overlapping, wanted)):
                return False
            try:
                for want in wanted:
                    for held in _hold_all(want):
                        held.close()
            except PluginError:
                return False
            return True

    def ephemeral_range(self) -> range:
        """Return the ports to choose from when any will do. Source: ip(7) ip_local_port_range."""
        if self._ephemeral is not None:
            return self._ephemeral
        first, last = _EPHEMERAL_RANGE.read_text(encoding="ascii").split()
        return range(int(first), int(last) + 1)


def allow_many() -> None:
    """This process may hold as many ports by sockets as its administrator lets it: usual is a tenth of that."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _numbers(run: HostPorts) -> range:
    return range(run.port, run.port + run.count)


def _overlap(one: HostPorts, other: HostPorts) -> bool:
    same_address = one.address == other.address or one.address.is_unspecified or other.address.is_unspecified
    return (
        (one.protocol, one.address.version) == (other.protocol, other.address.version)
        and same_address
        and one.port < other.port + other.count
        and other.port < one.port + one.count
    )


def _taken(want: HostPorts, who: str, holder: str = "", port: int = 0) -> Conflict:
    ports = str(port or want.port) if port or want.count == 1 else f"{want.port}-{want.port + want.count - 1}"
    return Conflict(
        f"cannot publish port {ports}/{want.protocol} on {want.address}: port is already allocated, to {who};"
        " free it or use another",
        holder,
    )


def _hold_all(want: HostPorts) -> list[socket.socket]:
    """Return sockets that hold the run; none if the kernel has no such protocol, so that nobody can open it.

    Raises: Conflict, KernelError: one could not be held; no other is held either.
    """
    sockets: list[socket.socket] = []
    port = want.port
    try:
        for port in range(want.port, want.port + want.count):
            held = _hold(want.protocol, want.address, port)
            if held is not None:
                sockets.append(held)
    except OSError as exc:
        for held in sockets:
            held.close()
        if exc.errno == errno.EADDRINUSE:
            raise _taken(want, owners.describe(want.protocol, port), port=port) from exc
        where = f"{port}/{want.protocol} on {want.address}"
        if exc.errno == errno.EADDRNOTAVAIL:
            raise Conflict(f"cannot publish port {where}: the host has no such address; use one of its own") from exc
        raise KernelError("hold port", where, exc.errno or 0) from exc
    return sockets


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
