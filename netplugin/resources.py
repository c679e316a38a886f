"""What pynet wants in the kernel: frozen values, each with the key of the object it speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Literal

from netplugin.records import Protocol

Family = Literal["ipv4", "ipv6"]


@dataclass(frozen=True)
class Bridge:
    """A bridge that is up and has these addresses and no others.

    adopted: it belongs to somebody else: it must exist, keeps its MAC address, MTU, alias and other addresses, and
    is never deleted.
    """

    name: str
    mac: str
    mtu: int
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    alias: str
    adopted: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        """The name."""
        return ("bridge", self.name)


@dataclass(frozen=True)
class Veth:
    """A pair: `name` is up and a port of `bridge`; `peer` was made beside it, and the engine moves it where it likes.

    hairpin: frames may leave by the port they came in, which a container's way to its own published port needs when
    bridged frames pass iptables. isolated: no frames between isolated ports of the bridge.
    """

    name: str
    peer: str
    peer_mac: str
    bridge: str
    mtu: int
    hairpin: bool
    isolated: bool
    alias: str

    @property
    def key(self) -> tuple[str, ...]:
        """The name of the end that stays."""
        return ("veth", self.name)


@dataclass(frozen=True)
class Vxlan:
    """A VXLAN device that is up and a port of `bridge`.

    local: this host's address in the underlay. learning: from what it receives, behind which VTEP an address is.
    isolated: as with a veth pair.
    """

    name: str
    bridge: str
    vni: int
    port: int
    local: str
    mtu: int
    learning: bool
    isolated: bool
    alias: str

    @property
    def key(self) -> tuple[str, ...]:
        """The name."""
        return ("vxlan", self.name)


@dataclass(frozen=True)
class FdbEntry:
    """Frames to `mac` leave by the VXLAN device `link` and are sent to `vtep`; the zero address may have many."""

    link: str
    mac: str
    vtep: str

    @property
    def key(self) -> tuple[str, ...]:
        """All of it: the same address behind another VTEP is another entry."""
        return ("fdb", self.link, self.mac, self.vtep)


@dataclass(frozen=True)
class OverlayGuard:
    """VXLAN packets of `vni` on UDP port `port` are dropped unless an OverlayMember of `link`, their device, sent them.

    So are frames out of `link` that claim to come from `mac`, the bridge's own. multicast: without, so are frames for
    many, both ways, but for those that ask and tell who has an address. names: addresses of the bridge that answer DNS;
    what a container asks of them is limited.
    """

    link: str
    mac: str
    vni: int
    port: int
    multicast: bool = True
    names: tuple[IPv4Address | IPv6Address, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """The device."""
        return ("overlay-guard", self.link)


@dataclass(frozen=True)
class OverlayProbes:
    """What the containers of `bridge` ask to find out whether an address is taken leaves by `link`, to all hosts.

    So do the answers to it, which are for everybody too.
    """

    link: str
    bridge: str

    @property
    def key(self) -> tuple[str, ...]:
        """The device."""
        return ("overlay-probes", self.link)


@dataclass(frozen=True)
class OverlayMember:
    """The host `vtep` may send packets of the VNI of `link`."""

    link: str
    vni: int
    port: int
    vtep: str

    @property
    def key(self) -> tuple[str, ...]:
        """The device and the host."""
        return ("overlay-member", self.link, self.vtep)


@dataclass(frozen=True)
class Neighbour:
    """The bridge `link` knows the MAC address of `address`, and answers for it."""

    link: str
    address: IPv4Address | IPv6Address
    mac: str

    @property
    def key(self) -> tuple[str, ...]:
        """The bridge and the address."""
        return ("neighbour", self.link, str(self.address))


@dataclass(frozen=True)
class Sysctl:
    """A value below /proc/sys. optional: no error where the kernel has no such file (no IPv6, say)."""

    path: str
    value: str
    optional: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        """The path."""
        return ("sysctl", self.path)


@dataclass(frozen=True)
class Forwarding:
    """The host forwards packets of one family."""

    family: Family

    @property
    def key(self) -> tuple[str, ...]:
        """The family."""
        return ("forwarding", self.family)


@dataclass(frozen=True)
class HostPorts:
    """A run of `count` host ports that nobody else can open while `owner`, an endpoint's ID, has them."""

    protocol: Protocol
    address: IPv4Address | IPv6Address
    port: int
    owner: str
    count: int = 1

    @property
    def key(self) -> tuple[str, ...]:
        """The ports and who has them: two owners of one port are two resources, of which only one can be ensured."""
        return ("port", self.protocol, str(self.address), str(self.port), str(self.count), self.owner)


@dataclass(frozen=True)
class Jump:
    """A rule of `parent` that jumps to a chain of ours, in the words and order of iptables-save."""

    table: str
    parent: str
    rule: str


@dataclass(frozen=True)
class Chain:
    """A chain with exactly these rules, in the words and order of iptables-save, and what jumps to it."""

    name: str
    rules: tuple[str, ...]
    jump: Jump


@dataclass(frozen=True)
class BaseChain:
    """A chain that rulesets hang on. rules: what it always holds; None: the jumps to the chains of rulesets."""

    table: str
    name: str
    rules: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Base:
    """The chains that all rulesets of a family hang on, and the jumps that lead to them from the built-in chains.

    Each jump stands first in its parent, before everything of others; in FORWARD right behind DOCKER-USER, if that is
    there.
    """

    chains: tuple[BaseChain, ...]
    jumps: tuple[Jump, ...]


@dataclass(frozen=True)
class Ruleset:
    """All chains of one network or endpoint in one family.

    A chain's name is its parent's, "-" and `owner`; so what belongs to an owner can be told from the names alone.
    """

    family: Family
    owner: str
    chains: tuple[Chain, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The family and the owner."""
        return ("rules", self.family, self.owner)


@dataclass(frozen=True)
class NftChain:
    """A chain of our nftables table, with its rules in the words of nft.

    Packets come to it by the name of an interface, looked up in the verdict map `map`; "" for a chain that others name.
    """

    name: str
    rules: tuple[str, ...]
    map: str
    interface: str


@dataclass(frozen=True)
class NftRuleset:
    """All nftables chains of one network in one family. Their names end in "-" and `owner`."""

    family: Family
    owner: str
    chains: tuple[NftChain, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The family and the owner."""
        return ("nft-rules", self.family, self.owner)


@dataclass(frozen=True)
class NftBase:
    """What the rulesets and ports of a family hang on: the table's text for nft -f, and the names of its maps and sets.

    by_interface: verdict maps by which packets find chains. by_port: maps and sets that hold elements of endpoints.
    """

    table: str
    text: str
    by_interface: tuple[str, ...]
    by_port: tuple[str, ...]


@dataclass(frozen=True)
class NftElement:
    """An element of a map or set of our table: packed key, end of the key's interval, packed data or verdict chain."""

    set: str
    key: bytes
    key_end: bytes = b""
    data: bytes = b""
    chain: str = ""


@dataclass(frozen=True)
class NftPorts:
    """All map elements of one endpoint in one family."""

    family: Family
    owner: str
    elements: tuple[NftElement, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The family and the owner."""
        return ("nft-ports", self.family, self.owner)


@dataclass(frozen=True)
class Shaper:
    """A link whose traffic is held to these rates; None: not held. Both are seen from inside the container.

    egress is what containers send, ingress what they receive. link: an endpoint's staying end, or a bridge for all that
    its endpoints receive from the host and the world. ifb: a device of that name queues the egress that is redirected
    to it. burst_bytes: what may pass at once after a pause; None: 10 ms worth.
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
class Redirect:
    """Frames that come in by `link`, a port of a bridge, go to `to` first: an ifb device, or straight to the bridge.

    bridge: only those to the MAC address of that bridge; "": all. mac, addresses: only packets of that source.
    """

    link: str
    to: str
    bridge: str = ""
    mac: str = ""
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """The link."""
        return ("redirect", self.link)


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
