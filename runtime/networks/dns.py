"""DNS for containers, on 127.0.0.11 of each one's namespace: names of their networks, else what other servers say.

The sockets are in the containers' namespaces, the threads in the daemon: they end with it, and it makes them again.
Port 53 stays free for the container, as with dockerd: the sockets have another, and a rule leads there.
"""

from __future__ import annotations

import ipaddress
import logging
import selectors
import socket
import struct
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnslib import AAAA, PTR, QTYPE, RCODE, RR, A, DNSError, DNSRecord

from runtime import process, sandbox
from runtime.errors import ApiError, Failed
from runtime.networks.names import Names

ADDRESS = ("127.0.0.11", 53)
TTL_S = 600
FORWARD_S = 2.0
WORKERS = 16
_RCODE = 3  # the byte of a message whose lower half says how it went
# From the range of clients' ports, where no server of the container listens.
PORTS = range(32768, 49152)
# Before what iptables has at -100. The empty table is for the first time: there must be one to delete.
RULES = """
table ip pyrun_dns
delete table ip pyrun_dns
table ip pyrun_dns {{
    chain output {{
        type nat hook output priority -101
        ip daddr {address} udp dport {port} dnat to {address}:{udp}
        ip daddr {address} tcp dport {port} dnat to {address}:{tcp}
    }}
}}
"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Client:
    """Whom a socket answers. networks and servers are asked with each query, for they change."""

    container: str
    networks: Callable[[], list[str]]
    servers: Callable[[], list[str]]


class Resolver:
    """Answers all containers."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._turn = threading.Lock()
        self._sockets: dict[str, list[socket.socket]] = {}
        self._selector = selectors.DefaultSelector()
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="dns")
        self._thread: threading.Thread | None = None

    def serve(self, netns: Path, client: Client) -> None:
        """The container's queries are answered.

        Raises: Failed: its namespace is gone, or nft(8) refuses.
        """
        self.stop(client.container)
        # The same ones for the next daemon, if they are free: netfilter remembers for a while whom a client had asked.
        port = PORTS[zlib.crc32(client.container.encode()) % len(PORTS)]
        try:
            opened = sandbox.inside(netns, lambda: _open(port))
        except OSError as exc:
            where = f"{ADDRESS[0]} of container {client.container[:12]}"
            raise Failed(f"cannot answer DNS queries at {where}: {exc}; see ss -lnp in it") from exc
        with self._turn:
            self._sockets[client.container] = opened
            for each in opened:
                self._selector.register(each, selectors.EVENT_READ, client)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="dns", daemon=True)
                self._thread.start()

    def stop(self, container: str) -> None:
        """Nobody answers in the container."""
        with self._turn:
            for each in self._sockets.pop(container, []):
                self._selector.unregister(each)
                each.close()

    def close(self) -> None:
        """Nobody is answered."""
        for container in list(self._sockets):
            self.stop(container)

    def _loop(self) -> None:
        while True:
            # Sockets come and go while it waits; epoll sees them.
            for key, _ in self._selector.select():
                try:
                    self._receive(key.fileobj, key.data)
                except (OSError, ValueError) as exc:
                    _log.debug("dns of %s: %s", key.data.container[:12], exc)

    def _receive(self, each: object, client: Client) -> None:
        assert isinstance(each, socket.socket)
        if each.type == socket.SOCK_STREAM:
            connection, _ = each.accept()
            self._workers.submit(self._converse, connection, client)
            return
        query, sender = each.recvfrom(65535)
        # Our own names are answered at once; others may take seconds, and wait elsewhere.
        if (answer := self._own(query, client)) is not None:
            each.sendto(answer, sender)
        else:
            self._workers.submit(self._relay, each, sender, query, client)

    def _relay(self, each: socket.socket, sender: Any, query: bytes, client: Client) -> None:
        try:
            each.sendto(forward(query, client.servers(), tcp=False), sender)
        except OSError as exc:
            _log.debug("dns of %s: %s", client.container[:12], exc)

    def _converse(self, connection: socket.socket, client: Client) -> None:
        with connection:
            connection.settimeout(FORWARD_S * 2)
            try:
                query = receive(connection)
                answer = self._own(query, client) or forward(query, client.servers(), tcp=True)
                connection.sendall(struct.pack("!H", len(answer)) + answer)
            except (OSError, ApiError) as exc:
                _log.debug("dns of %s: %s", client.container[:12], exc)

    def _own(self, query: bytes, client: Client) -> bytes | None:
        """Return the answer to a query about our own names; None if it is about others."""
        try:
            question = DNSRecord.parse(query)
            if len(question.questions) != 1:
                raise DNSError("not one question")
        except (DNSError, ValueError, IndexError):
            return query[:2].ljust(2, b"\0") + struct.pack("!HHHHH", 0x8001, 0, 0, 0, 0)
        name, kind = str(question.q.qname).rstrip("."), QTYPE.get(question.q.qtype)
        records: list[RR] = []
        if kind == "PTR":
            if (known := self._names.name_of(client.networks(), _address(name))) is None:
                return None
            records = [RR(question.q.qname, QTYPE.PTR, ttl=TTL_S, rdata=PTR(known))]
        else:
            networks = client.networks()
            found = self._names.addresses(networks, name, v6=kind == "AAAA")
            if found is None:
                return None
            # A name of ours has no other records, and nobody outside is to say otherwise.
            if kind in ("A", "AAAA"):
                record = AAAA if kind == "AAAA" else A
                records = [RR(question.q.qname, question.q.qtype, ttl=TTL_S, rdata=record(each)) for each in found]
        answer = question.reply(ra=1, aa=1)
        answer.add_answer(*records)
        return bytes(answer.pack())


def forward(query: bytes, servers: list[str], tcp: bool) -> bytes:
    """Return what the first of the servers to have an answer says; SERVFAIL without any."""
    for server in servers:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as upstream:
                upstream.settimeout(FORWARD_S)
                upstream.connect((server, 53))
                upstream.sendall((struct.pack("!H", len(query)) if tcp else b"") + query)
                answer = receive(upstream) if tcp else upstream.recv(65535)
                # As dockerd does: who refuses, or fails, may not be the one to ask.
                if answer[:2] == query[:2] and answer[_RCODE] & 15 not in (RCODE.REFUSED, RCODE.SERVFAIL):
                    return answer
        except (OSError, IndexError) as exc:
            _log.debug("dns server %s: %s", server, exc)
    failed = DNSRecord.parse(query).reply(ra=1, aa=0)
    failed.header.rcode = RCODE.SERVFAIL
    return bytes(failed.pack())


def receive(connection: socket.socket) -> bytes:
    """Return one message of a TCP connection, which has its length before it.

    Raises: OSError: it ended early.
    """
    with connection.makefile("rb") as stream:
        head = stream.read(2)
        body = stream.read(struct.unpack("!H", head)[0]) if len(head) == 2 else b""
    if len(head) < 2 or len(body) < struct.unpack("!H", head)[0]:
        raise ConnectionError("the message ended early")
    return body


def _open(port: int) -> list[socket.socket]:
    """Return a UDP socket and a TCP socket of this namespace to which queries are led, at `port` if that is free."""
    opened: list[socket.socket] = []
    try:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            opened.append(socket.socket(socket.AF_INET, kind))
            # A connection of the daemon before, not yet forgotten by the kernel, is no reason not to listen.
            if kind == socket.SOCK_STREAM:
                opened[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                opened[-1].bind((ADDRESS[0], port))
            except OSError:
                opened[-1].bind((ADDRESS[0], 0))
        opened[-1].listen(64)
        udp, tcp = (each.getsockname()[1] for each in opened)
        process.run(["nft", "-f", "-"], RULES.format(address=ADDRESS[0], port=ADDRESS[1], udp=udp, tcp=tcp))
    except (OSError, ApiError):
        for each in opened:
            each.close()
        raise
    return opened


def _address(pointer: str) -> str:
    """Return the address that a name below in-addr.arpa or ip6.arpa is of, or nothing."""
    labels = pointer.lower().split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"]:
            return str(ipaddress.IPv4Address(".".join(reversed(labels[:-2]))))
        digits = "".join(reversed(labels[:-2]))
        return str(ipaddress.IPv6Address(int(digits, 16))) if len(digits) == 32 else ""
    except ValueError:
        return ""
