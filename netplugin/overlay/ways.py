"""What hosts send each other to see whether their overlays' way carries packets whole: frames and verdicts. Pure.

A question and an answer are UDP datagrams in Ethernet frames, in VXLAN packets of a VNI of their own. A question is
asked three times: with its checksum left to the device, as containers' packets are; with the checksum in it; and as
large as the packets of containers get.
Source: RFC 768, 1071, 7348; linux/virtio_net.h.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Container
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

# Below those that are made of names, and no network's.
VNI = 0x4FFFFF
State = Literal["good", "checksums", "narrow", "silent"]
Mode = Literal["device", "ready", "large"]

_MAGIC = b"pynet-way-1"
_ASK, _ANSWER = 0, 1
_NONCE_BYTES, _NAME_BYTES = 8, 40
_PORT = 9
# For documentation, so that they are no address of anybody's (RFC 5737).
_SOURCE, _DESTINATION = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
_HEADERS = 14 + 20
_BODY = struct.Struct(f"!{len(_MAGIC)}sBB{_NONCE_BYTES}s{_NAME_BYTES}s")
# flags, GSO type, header length, GSO size, where the checksum begins, and where it is from there.
_VNET = struct.Struct("=BBHHHH")
_NEEDS_CHECKSUM, _IS_CHECKED = 1, 2


@dataclass(frozen=True)
class Underlay:
    """Where this host's overlays of one UDP port and family have their peers.

    local: its own address there. mtu: of the network that has the largest packets.
    """

    port: int
    local: str
    peers: frozenset[str]
    mtu: int

    @property
    def link(self) -> str:
        """The device that asks."""
        return f"pnt{self.port}-{ip_address(self.local).version}"


@dataclass(frozen=True)
class Way:
    """How it is to a peer.

    good: whole; checksums: only if no device computes them; narrow: small packets only; silent: nothing comes back.
    """

    peer: str
    port: int
    state: State


@dataclass(frozen=True)
class Message:
    """A question, or the answer with the same nonce. sender: its VTEP. whole: of an answer, that the question was."""

    is_answer: bool
    nonce: bytes
    sender: str
    whole: bool


def address_of(vtep: str) -> str:
    """Return the MAC address by which a host's probe is reached."""
    digest = hashlib.sha256(vtep.encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))


def pack(message: Message, peer: str, mode: Mode, mtu: int = 0) -> bytes:
    """Return the frame as a packet socket with PACKET_VNET_HDR takes it.

    mode: "device" computes the checksum, else it is there; "large": the IP packet has `mtu` bytes.
    """
    kind = _ANSWER if message.is_answer else _ASK
    body = _BODY.pack(_MAGIC, kind, message.whole, message.nonce, message.sender.encode())
    body += bytes(max(0, mtu - 20 - 8 - len(body))) if mode == "large" else b""
    length = 8 + len(body)
    pseudo = _SOURCE + _DESTINATION + struct.pack("!BBH", 0, 17, length)
    udp = struct.pack("!HHHH", _PORT, _PORT, length, 0) + body
    # What a device has to complete has the sum of the pseudo-header in the checksum's place.
    checksum = _sum(pseudo) if mode == "device" else (0xFFFF - _sum(pseudo + udp)) or 0xFFFF
    udp = udp[:6] + struct.pack("!H", checksum) + udp[8:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0, 64, 17, 0, _SOURCE, _DESTINATION)
    ip = ip[:10] + struct.pack("!H", 0xFFFF - _sum(ip)) + ip[12:]
    ethernet = _octets(address_of(peer)) + _octets(address_of(message.sender)) + b"\x08\x00"
    flags = _NEEDS_CHECKSUM if mode == "device" else 0
    return _VNET.pack(flags, 0, 0, 0, _HEADERS if flags else 0, 6 if flags else 0) + ethernet + ip + udp


def unpack(received: bytes) -> tuple[Message, bool] | None:
    """Return a message that came from a packet socket, and whether its checksum is right; None for anything else."""
    start = _VNET.size + _HEADERS
    if len(received) < start + 8 + _BODY.size or received[_VNET.size + 12 : _VNET.size + 14] != b"\x08\x00":
        return None
    flags = received[0]
    udp = received[start : start + int.from_bytes(received[start + 4 : start + 6], "big")]
    if len(udp) < 8 + _BODY.size:
        return None
    magic, kind, whole, nonce, name = _BODY.unpack_from(udp, 8)
    if magic != _MAGIC or kind not in (_ASK, _ANSWER):
        return None
    pseudo = _SOURCE + _DESTINATION + struct.pack("!BBH", 0, 17, len(udp))
    # Between two machines without a wire no device completes it, and whoever receives it knows that.
    right = bool(flags & (_NEEDS_CHECKSUM | _IS_CHECKED)) or _sum(pseudo + udp) == 0xFFFF
    sender = name.rstrip(b"\0").decode("ascii", "replace")
    return Message(kind == _ANSWER, nonce, sender, bool(whole)), right


def verdict(whole: Container[Mode]) -> State:
    """Return how a way is. whole: the questions that were answered as having come whole."""
    if "device" in whole:
        return "good" if "large" in whole else "narrow"
    return "checksums" if "ready" in whole else "silent"


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _sum(content: bytes) -> int:
    """Return the sum of 16-bit words in one's complement."""
    padded = content + b"\0" * (len(content) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total
