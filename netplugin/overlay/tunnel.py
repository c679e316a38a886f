"""Encrypted overlays: the VXLAN packets of all of them go through one WireGuard link of their host.

Each host has an address inside of that link for each such network, and is let in with that one alone. So the addresses
of a link, and those that its peers may have, say which networks there are and who is on them. Pure.
Source: wg(8); https://www.wireguard.com/protocol/.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network

LINK = "pnwg0"
PORT = 14790
# Unique local (RFC 4193); "pynet" in ASCII is as good as drawn.
PREFIX = IPv6Network("fd70:796e:6574::/48")
# IP and UDP headers outside; 16 bytes of header and 16 of authentication inside.
OVERHEAD_BYTES = {4: 20 + 8 + 32, 6: 40 + 8 + 32}
# Of IPv6, which the link carries. Source: RFC 8200 section 5.
LOWEST_MTU = 1280

_HOST_BYTES = 10


@dataclass(frozen=True)
class Tunnel:
    """This host's WireGuard link is up, with its own key, and bears `address`, which other hosts reach by it alone.

    mtu: of the largest packet that has to leave by it; the link, which others share, may take larger ones.
    """

    address: str
    mtu: int

    @property
    def key(self) -> tuple[str, ...]:
        """The address."""
        return ("tunnel", self.address)


@dataclass(frozen=True)
class TunnelPeer:
    """Whoever has the private key of `public_key` may send as `address`, and what is sent there is for him alone.

    endpoint: where he gets it, as wg(8) has it.
    """

    address: str
    public_key: str
    endpoint: str

    @property
    def key(self) -> tuple[str, ...]:
        """The address: no two have it."""
        return ("tunnel-peer", self.address)


def address_inside(network: str, host: str) -> str:
    """Return the address of a host for one network, known to whoever knows both: name and ID."""
    digest = hashlib.sha256(f"{network} {host}".encode()).digest()
    return str(PREFIX[int.from_bytes(digest[:_HOST_BYTES])])


def endpoint_of(address: IPv4Address | IPv6Address) -> str:
    """Return where a host of that address gets WireGuard packets, as wg(8) has it."""
    return f"[{address}]:{PORT}" if address.version == 6 else f"{address}:{PORT}"


def address_of(endpoint: str) -> str:
    """Return the address of an endpoint."""
    return endpoint.rpartition(":")[0].strip("[]")
