"""Which frames are the packet that was sent, and what became of it. Pure.

Addresses and ports change on the way. What does not: the content of UDP and of a ping, the first sequence number of
TCP. Source: RFC 791, 8200, 768, 9293, 792, 4443.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from netplugin.admin.wire import EndpointInfo, NetworkInfo
from netplugin.engine.view import EngineView
from netplugin.overlay.plan import device_name

Address = IPv4Address | IPv6Address
Transport = Literal["tcp", "udp", "icmp"]
_NUMBERS = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}
_SYN, _ACK = 0x02, 0x10
_ECHO_REQUESTS = (8, 128)


@dataclass(frozen=True)
class Seen:
    """The packet on a link. Link: its name. Direction: as the host sees it. What: what is behind that link."""

    Link: str
    Direction: Literal["in", "out"]
    What: str


@dataclass(frozen=True)
class Packet:
    """The head of an IP packet, as far as it matters. mark: what no translation changes."""

    source: Address
    destination: Address
    port: int
    mark: bytes


def read(data: bytes, transport: Transport) -> Packet | None:
    """Return the packet, if it is the first one of a flow of that transport. port: its source's, 0 for a ping."""
    if data[:1] and data[0] >> 4 == 4 and len(data) >= 20:
        number, start, source, destination = data[9], (data[0] & 15) * 4, data[12:16], data[16:20]
    elif data[:1] and data[0] >> 4 == 6 and len(data) >= 40:
        number, start, source, destination = data[6], 40, data[8:24], data[24:40]
    else:
        return None
    body = data[start:]
    mark = _mark(body, transport) if _NUMBERS.get(number) == transport else b""
    if not mark:
        return None
    port = 0 if transport == "icmp" else int.from_bytes(body[:2])
    return Packet(ip_address(source), ip_address(destination), port, mark)


def _mark(body: bytes, transport: Transport) -> bytes:
    match transport:
        case "icmp":
            return body[8:] if body[:1] and body[0] in _ECHO_REQUESTS else b""
        case "udp":
            return body[8:]
        case "tcp":
            return body[4:8] if len(body) >= 20 and body[13] & (_SYN | _ACK) == _SYN else b""


class Course:
    """What is known of the packet that is under way."""

    def __init__(
        self, transport: Transport, source: EndpointInfo | None, networks: Iterable[NetworkInfo], names: EngineView
    ) -> None:
        """source: whose it is, None: the host's."""
        self._transport = transport
        self._source = source
        self._here: dict[str, EndpointInfo] = {}
        self._away: set[str] = set()
        self._told: dict[str, str] = {"lo": "the host's loopback"}
        for network in networks:
            name = names.network_name(network.ID)
            self._told[network.Bridge] = f"the bridge of {name}"
            self._told[device_name(network.ID)] = f"other hosts on {name}"
            self._away.add(device_name(network.ID))
            for endpoint in network.Endpoints:
                self._here[endpoint.Link] = endpoint
                self._told[endpoint.Link] = f"{names.container_name(endpoint.ID)} on {name}"
        self.seen: list[Seen] = []
        self.reached = ""
        self._mark = b""

    def expect(self, mark: bytes, port: int) -> None:
        """The packet is one with this mark, or, if that is b"", the first one from this port of the source."""
        self._mark, self._port = mark, port

    def see(self, link: str, data: bytes, *, received: bool) -> None:
        """What was on that link is taken into account, if it is the packet."""
        packet = read(data, self._transport)
        if packet is None or not self._is_it(packet, link):
            return
        seen = Seen(link, "in" if received else "out", self._told.get(link, "another link of the host"))
        if seen in self.seen:
            return
        self.seen.append(seen)
        if not received:
            self._goes_out(packet, link, seen.What)

    def agrees(self, verdict: str) -> bool | None:
        """Tell whether that became of it which the verdict says; None: the verdict leaves it open."""
        return {"passes": bool(self.reached), "dropped": not self.reached}.get(verdict)

    def _is_it(self, packet: Packet, link: str) -> bool:
        if not self._mark:
            starts = self._source is None or link == self._source.Link
            if packet.port != self._port or not starts:
                return False
            self._mark = packet.mark
        return packet.mark == self._mark

    def _goes_out(self, packet: Packet, link: str, what: str) -> None:
        """Note if it has got where this host hands it on. A bridge may show it to others than whom it is for."""
        endpoint = self._here.get(link)
        if endpoint is not None:
            if str(packet.destination) in {each.partition("/")[0] for each in endpoint.Addresses}:
                self.reached = what
        elif link in self._away or link not in self._told:
            self.reached = f"{what} ({link})"
