"""What pynet wants in the kernel: frozen values, each with the key of the object it speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Literal

from netplugin.records import Protocol

Family = Literal["ipv4", "ipv6"]


@dataclass(frozen=True)
class Bridge:
    """A bridge that is up and has these addresses and no others."""

    name: str
    mac: str
    mtu: int
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    alias: str

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
class HostPort:
    """A host port that nobody else can open while `owner`, an endpoint's ID, has it."""

    protocol: Protocol
    address: IPv4Address | IPv6Address
    port: int
    owner: str

    @property
    def key(self) -> tuple[str, ...]:
        """The port and who has it: two owners of one port are two resources, of which only one can be ensured."""
        return ("port", self.protocol, str(self.address), str(self.port), self.owner)


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
class Base:
    """The chains, by table and name, that all rulesets of a family hang on, and the jumps that lead to them.

    Each jump stands at the head of its parent, before everything of others.
    """

    chains: tuple[tuple[str, str], ...]
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
