"""A network namespace, seen from one of its links: packets are sent there and heard there."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scapy.layers.l2 import Ether

from netplugin.kernel.netns import open_socket
from pluginkit.command import run
from pluginkit.conform.case import Failed

# Source: packet(7), linux/if_ether.h.
_ETH_P_ALL = 3
_PACKET_OUTGOING = 4
_SO_RCVBUFFORCE = 33
_STORM = 100
# How long something that comes may take on a busy machine, and how long nothing has come that does not come.
PATIENCE_S, QUIET_S = 3.0, 0.15
# Who answers for others takes a moment first, so that they can do so themselves (net.ipv4.neigh.*.proxy_delay).
PROXY_S = 1.0

Match = Callable[[Any], bool]


def token() -> bytes:
    """Return bytes by which a packet is known again, whatever has been done to its headers."""
    return secrets.token_hex(8).encode()


@dataclass(frozen=True)
class Place:
    """A link in a network namespace."""

    namespace: Path
    link: str
    mac: str

    def run(self, *argv: str) -> str:
        """The program has been run there and has ended well; return what it printed."""
        return run(["nsenter", f"--net={self.namespace}", *argv]).stdout

    def ip_socket(self, version: int, kind: int, protocol: int = 0) -> socket.socket:
        """Return an IP socket that is there and waits for no more than PATIENCE_S."""
        opened = open_socket(self.namespace, socket.AF_INET if version == 4 else socket.AF_INET6, kind, protocol)
        opened.settimeout(PATIENCE_S)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return opened

    def raw(self, protocol: int = 0) -> socket.socket:
        """Return a packet socket on the link."""
        opened = open_socket(self.namespace, socket.AF_PACKET, socket.SOCK_RAW)
        opened.bind((self.link, protocol))
        return opened

    def index(self) -> int:
        """Return the link's number there."""
        return int(self.run("ip", "-o", "link", "show", "dev", self.link).partition(":")[0])

    def send(self, *frames: Any) -> None:
        """The frames have left by the link."""
        with self.raw() as sender:
            for frame in frames:
                sender.send(bytes(frame))

    def hear(self, match: Match, *, leaving: bool = False) -> Listening:
        """Return a listener for frames that come in by the link, or `leaving`: that go out by it."""
        return Listening(self, match, leaving)

    def ask(self, frame: Any, match: Match) -> Any:
        """Return the first frame that matches after `frame` was sent.

        Raises: Failed: none came.
        """
        with self.hear(match) as heard:
            self.send(frame)
            return heard.first()


class Listening:
    """What comes while the block runs."""

    def __init__(self, place: Place, match: Match, leaving: bool) -> None:
        self._place, self._match, self._leaving = place, match, leaving
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        self._socket = self._place.raw(_ETH_P_ALL)
        # A neighbour's bulk transfer must not push out the one frame that is waited for.
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 23)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            self._socket.close()

    def first(self, what: str = "the packet", within_s: float = PATIENCE_S) -> Any:
        """Return the first frame that matches.

        Raises: Failed: none came in time.
        """
        frame = self._next(within_s)
        if frame is None:
            raise Failed(f"{what} did not come within {within_s:g} s")
        return frame

    def all(self, quiet_s: float = QUIET_S) -> list[Any]:
        """Return all frames that match, until none came for `quiet_s`; no more than a hundred of a storm."""
        found: list[Any] = []
        while len(found) < _STORM and (frame := self._next(quiet_s)) is not None:
            found.append(frame)
        return found

    def none(self, what: str = "the packet", quiet_s: float = QUIET_S) -> None:
        """No frame that matches has come.

        Raises: Failed: one came.
        """
        if (frame := self._next(quiet_s)) is not None:
            raise Failed(f"{what} came: {frame.summary()}")

    def _next(self, within_s: float) -> Any | None:
        assert self._socket is not None
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            with suppress(TimeoutError):
                content, (_, _, direction, _, _) = self._socket.recvfrom(1 << 17)
                frame = Ether(content)
                if (direction == _PACKET_OUTGOING) == self._leaving and self._match(frame):
                    return frame
        return None
