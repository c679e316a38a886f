"""One packet, from a network namespace to an address. Source: socket(7), raw(7), tcp(7)."""

from __future__ import annotations

import errno
import secrets
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal

from netplugin.kernel.netns import open_socket
from pluginkit.errors import KernelError

Address = IPv4Address | IPv6Address
Transport = Literal["tcp", "udp", "icmp"]
_KINDS = {"tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP), "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP)}
_PINGS = {4: (socket.IPPROTO_ICMP, 8), 6: (socket.IPPROTO_ICMPV6, 128)}


class Sender:
    """A socket that sends one packet. mark: its content; b"": it has none, and is known by the port that it is from."""

    def __init__(self, namespace: Path | None, source: Address | None, to: Address, transport: Transport) -> None:
        """namespace: None: this one. Raises: KernelError: it cannot be entered, or knows no such address."""
        self._to, self._transport = to, transport
        family = socket.AF_INET if to.version == 4 else socket.AF_INET6
        kind, protocol = _KINDS.get(transport, (socket.SOCK_RAW, _PINGS[to.version][0]))
        self._socket = open_socket(namespace or Path("/proc/thread-self/ns/net"), family, kind, protocol)
        try:
            self._socket.setblocking(False)
            self._socket.bind((str(source) if source else "", 0))
        except OSError as exc:
            self._socket.close()
            raise KernelError("send from", str(source or "this host"), exc.errno or 0) from exc
        self.mark = b"" if transport == "tcp" else secrets.token_hex(8).encode()
        self.port: int = self._socket.getsockname()[1]

    def send(self, port: int) -> str:
        """The packet was sent; return why not, else "": there is no way, or a rule of the sender's own forbids it."""
        try:
            if not self.mark:
                self._socket.connect((str(self._to), port))
            elif self._transport == "udp":
                self._socket.sendto(self.mark, (str(self._to), port))
            else:
                self._socket.sendto(_ping(self._to.version, self.mark), (str(self._to), 0))
        except BlockingIOError:
            pass
        except ConnectionRefusedError:
            # It got there, and the answer was back before we looked.
            pass
        except OSError as exc:
            return f"{exc.strerror} ({errno.errorcode.get(exc.errno or 0, exc.errno)})"
        return ""

    def close(self) -> None:
        """Nothing more is sent; a connection that came of it was reset."""
        if not self.mark:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


def _ping(version: int, mark: bytes) -> bytes:
    head = struct.pack("!BBHHH", _PINGS[version][1], 0, 0, 1, 1)
    # Of IPv6 the kernel computes it.
    return head[:2] + (_checksum(head + mark) if version == 4 else b"\0\0") + head[4:] + mark


def _checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
