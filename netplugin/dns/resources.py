"""What pynet wants of DNS: frozen values, each with the key of what it speaks of."""

from __future__ import annotations

from dataclasses import dataclass

from netplugin.dns.zone import Address, Pool


@dataclass(frozen=True)
class NameServer:
    """DNS is answered at these addresses to who asks on the bridge `link`, and to the host itself.

    domain: the network's name, in lower case, which may be written behind each name. pools: whose addresses have names.
    """

    link: str
    addresses: tuple[Address, ...]
    domain: str
    pools: tuple[Pool, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The bridge."""
        return ("name-server", self.link)


@dataclass(frozen=True)
class Named:
    """On the bridge `link` the address has these names, the container's own first."""

    link: str
    address: Address
    names: tuple[str, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The bridge and the address."""
        return ("named", self.link, str(self.address))
