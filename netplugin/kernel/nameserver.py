"""DNS on bridges, by one thread for all of them, and what it knows.

A socket is bound to its bridge: queries that come in by any other link find nobody, and are refused by the kernel; the
host itself may ask, for what it sends to itself the kernel takes for what came in by the bridge. How much one may
ask is limited by the guard of its overlay; how much all may ask together, here.
Source: socket(7) SO_BINDTODEVICE; ip(7) IP_FREEBIND; RFC 7766 (DNS over TCP).
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from netplugin.dns.answer import answer
from netplugin.dns.resources import Named, NameServer
from netplugin.dns.zone import Domain, Zone
from netplugin.kernel.ports import owners
from pluginkit.errors import Conflict, KernelError
from pluginkit.log import failure

log = logging.getLogger(__name__)

PORT = 53
# A third of one processor's time, so that whoever asks without end keeps nobody else waiting for it.
_PER_SECOND = 2000
_AT_ONCE = 16
# A query has one question; 512 bytes are what every server takes.
_MOST_BYTES = 512
_MOST_CONNECTIONS, _MOST_OF_ONE = 64, 4
_IDLE_S = 5.0
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78


@dataclass
class _Connection:
    """A TCP connection, what has been read of it, and until when it may say nothing."""

    socket: socket.socket
    client: str
    reply: Callable[[bytes], bytes | None]
    until: float
    read: bytearray = field(default_factory=bytearray)


class NameServers:
    """What answers on bridges of this network namespace. It ends with the process, and the next one begins anew.

    idle_s: so long a TCP connection may say nothing.
    """

    def __init__(self, idle_s: float = _IDLE_S) -> None:
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._served: dict[NameServer, list[socket.socket]] = {}
        self._zones: dict[str, Zone] = {}
        self._selector = selectors.DefaultSelector()
        self._connections: list[_Connection] = []
        self._thread: threading.Thread | None = None
        self._closed = False
        # Readable once the thread is to end.
        self._end = os.eventfd(0)
        self._selector.register(self._end, selectors.EVENT_READ)

    def zone(self, link: str) -> Zone:
        """Return what is known of the names on a bridge, whether it is served or not."""
        with self._lock:
            return self._zones.setdefault(link, Zone())

    def zones(self) -> dict[str, Zone]:
        """Return all zones, by the bridge."""
        with self._lock:
            return dict(self._zones)

    def ensure(self, want: NameServer) -> None:
        """Who asks on the bridge is answered.

        Raises: Conflict: another program has the port on all addresses. KernelError: there is no such bridge.
        """
        zone = self.zone(want.link)
        with self._lock:
            if want in self._served:
                return
            for other in [have for have in self._served if have.link == want.link]:
                self._stop(other)
            self._served[want] = self._open(want, zone)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dns", daemon=True)
                self._thread.start()

    def remove(self, want: NameServer) -> None:
        """Nobody is answered on the bridge."""
        with self._lock:
            for have in [have for have in self._served if have.link == want.link]:
                self._stop(have)

    def owned(self) -> Iterable[NameServer]:
        """Return what this process serves."""
        with self._lock:
            return list(self._served)

    def close(self) -> None:
        """Nobody is answered, from now on; a second time is no harm."""
        if self._closed:
            return
        self._closed = True
        os.eventfd_write(self._end, 1)
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            for have in list(self._served):
                self._stop(have)
        for known in list(self._connections):
            self._drop(known)
        self._selector.close()
        os.close(self._end)

    def _open(self, want: NameServer, zone: Zone) -> list[socket.socket]:
        opened: list[socket.socket] = []
        domain = Domain(want.domain, want.pools)

        def by_datagram(query: bytes) -> bytes | None:
            return answer(query, zone, domain, is_stream=False)

        def by_stream(query: bytes) -> bytes | None:
            return answer(query, zone, domain, is_stream=True)

        try:
            for address in want.addresses:
                family = socket.AF_INET if address.version == 4 else socket.AF_INET6
                for kind, reply in ((socket.SOCK_DGRAM, by_datagram), (socket.SOCK_STREAM, by_stream)):
                    opened.append(each := socket.socket(family, kind | socket.SOCK_NONBLOCK))
                    _bind(each, want.link, str(address))
                    self._selector.register(each, selectors.EVENT_READ, reply)
        except OSError as exc:
            self._close_all(opened)
            where = f"port {PORT} on {want.link}"
            if exc.errno == errno.EADDRINUSE:
                holder = owners.describe("udp", PORT)
                raise Conflict(
                    f"cannot answer DNS at {where}: {holder} has the port on all addresses of this host; let it listen"
                    " on single addresses, or leave -o dns=true out"
                ) from exc
            raise KernelError("answer DNS at", where, exc.errno or 0) from exc
        return opened

    def _stop(self, have: NameServer) -> None:
        self._close_all(self._served.pop(have))

    def _close_all(self, sockets: Iterable[socket.socket]) -> None:
        for each in sockets:
            if each in self._selector.get_map():
                self._selector.unregister(each)
            each.close()

    def _run(self) -> None:
        while not self._closed:
            # Sockets come and go while it waits; epoll sees them.
            begin, count = time.monotonic(), 0
            for key, _ in self._selector.select(timeout=1.0):
                begin = begin if count else time.monotonic()
                try:
                    count += self._serve(key)
                except OSError as exc:
                    log.debug("dns: %s", exc)
                except Exception as exc:  # noqa: BLE001 - the thread must live; the next query may be a better one
                    failure(log, exc)
            self._drop_idle()
            # What comes meanwhile waits in the sockets, and what finds no room there is lost, as DNS allows for.
            time.sleep(max(0.0, count / _PER_SECOND - (time.monotonic() - begin)))

    def _serve(self, key: selectors.SelectorKey) -> int:
        """What has come in at a socket was answered; return how many queries that were."""
        if isinstance(key.data, _Connection):
            return self._converse(key.data)
        each = key.fileobj
        if not isinstance(each, socket.socket):
            return 0
        if each.type == socket.SOCK_STREAM:
            self._accept(each, key.data)
            return 1
        for count in range(_AT_ONCE):
            try:
                # One byte more than may be: so what is too long is seen.
                query, sender = each.recvfrom(_MOST_BYTES + 1)
            except BlockingIOError:
                return count
            if len(query) <= _MOST_BYTES and (reply := key.data(query)) is not None:
                each.sendto(reply, sender)
        return _AT_ONCE

    def _accept(self, each: socket.socket, reply: Callable[[bytes], bytes | None]) -> None:
        connection, (client, *_) = each.accept()
        of_one = sum(1 for other in self._connections if other.client == client)
        if len(self._connections) >= _MOST_CONNECTIONS or of_one >= _MOST_OF_ONE:
            connection.close()
            return
        connection.setblocking(False)
        known = _Connection(connection, client, reply, time.monotonic() + self._idle_s)
        self._connections.append(known)
        self._selector.register(connection, selectors.EVENT_READ, known)

    def _converse(self, known: _Connection) -> int:
        """All whole queries of a connection were answered; one that breaks a rule is closed."""
        count = 1
        try:
            read = known.socket.recv(_MOST_BYTES + 2)
            known.read += read
            while len(known.read) >= 2:
                (size,) = struct.unpack_from("!H", known.read)
                if size > _MOST_BYTES:
                    read = b""
                if len(known.read) < 2 + size or not read:
                    break
                reply = known.reply(bytes(known.read[2 : 2 + size]))
                del known.read[: 2 + size]
                count += 1
                if reply is not None:
                    # What does not fit into an empty socket at once is not read at the other end.
                    known.socket.sendall(struct.pack("!H", len(reply)) + reply)
                    known.until = time.monotonic() + self._idle_s
        except OSError:
            read = b""
        if not read:
            self._drop(known)
        return count

    def _drop_idle(self) -> None:
        now = time.monotonic()
        for known in [known for known in self._connections if known.until < now]:
            self._drop(known)

    def _drop(self, known: _Connection) -> None:
        self._connections.remove(known)
        self._selector.unregister(known.socket)
        known.socket.close()


class Names:
    """What the name servers know: names and addresses, by the bridge on which they are asked for."""

    def __init__(self, servers: NameServers) -> None:
        self._servers = servers

    def ensure(self, want: Named) -> None:
        """The address has these names and no others."""
        self._servers.zone(want.link).put(want.address, want.names)

    def remove(self, want: Named) -> None:
        """The address has no name."""
        self._servers.zone(want.link).put(want.address, ())

    def owned(self) -> Iterable[Named]:
        """Return all names."""
        zones = self._servers.zones().items()
        return [Named(link, address, names) for link, zone in zones for address, names in zone.known().items()]


def _bind(each: socket.socket, link: str, address: str) -> None:
    """The socket gets what comes in by the link for the address, which may be one that is about to come."""
    each.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode() + b"\0")
    if each.family == socket.AF_INET6:
        each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        each.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        each.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    if each.type == socket.SOCK_STREAM:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    each.bind((address, PORT))
    if each.type == socket.SOCK_STREAM:
        each.listen(_MOST_CONNECTIONS)
