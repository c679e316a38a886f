"""What pynet wants of the traffic of links: at which rate it flows, and from which addresses it comes."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

# Below this the kernel's bucket, which holds at most 4.3 s worth of bytes, has no room for a jumbo frame.
LOWEST_BITS_PER_S = 64_000


@dataclass(frozen=True)
class Shaper:
    """A link whose traffic is held to these rates; None: not held. Both are seen from inside the container.

    egress is what containers send, ingress what they receive. link: an endpoint's staying end holds that endpoint; a
    bridge holds what all its endpoints together exchange with the host and the world, not what they send to each other.
    ifb: a device of that name queues the egress. burst_bytes: what may pass at once after a pause; None: 10 ms worth.
    """

    link: str
    ifb: str
    egress_bits_per_s: int | None
    ingress_bits_per_s: int | None
    burst_bytes: int | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """The link."""
        return ("shaper", self.link)


@dataclass(frozen=True)
class SourceGuard:
    """An endpoint's staying end from which frames enter the bridge only with this MAC and these addresses.

    The IPv6 link-local address that belongs to the MAC (EUI-64) is always one of them.
    """

    link: str
    mac: str
    addresses4: tuple[IPv4Address, ...]
    addresses6: tuple[IPv6Address, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The link."""
        return ("guard", self.link)


def endpoint_ifb(endpoint_id: str) -> str:
    """Return the name of the device that queues what an endpoint sends."""
    return f"pni{endpoint_id[:8]}"


def network_ifb(network_id: str) -> str:
    """Return the name of the device that queues what the endpoints of a network send out of it."""
    return f"pno{network_id[:8]}"
