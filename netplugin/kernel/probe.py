"""Questions about the machine that a verb asks before it decides."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from netplugin.kernel.links import Veths
from netplugin.kernel.ports import HostPorts
from netplugin.records import Protocol


class HostProbe:
    """Answers from the kernel modules that would do the work."""

    def __init__(self, ports: HostPorts, veths: Veths) -> None:
        self._ports = ports
        self._veths = veths

    def is_free(self, protocol: Protocol, addresses: Iterable[IPv4Address | IPv6Address], port: int) -> bool:
        """Tell whether a host port could be held on all of `addresses`."""
        return self._ports.is_free(protocol, addresses, port)

    def ephemeral_range(self) -> range:
        """Return the ports to choose from when any will do."""
        return self._ports.ephemeral_range()

    def link_exists(self, name: str) -> bool:
        """Tell whether a link of this namespace exists."""
        return self._veths.exists(name)

    def sandbox_is_gone(self, key: str) -> bool:
        """Tell whether the engine has removed the file of a sandbox; false where its directory cannot be seen."""
        path = Path(key)
        return bool(key) and path.parent.is_dir() and not path.exists()
