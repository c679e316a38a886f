"""Whether the host forwards packets. Source: ip-sysctl.rst, ip_forward, forwarding, accept_ra."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from netplugin.resources import Family, Forwarding
from pluginkit.command import run
from pluginkit.errors import KernelError

log = logging.getLogger(__name__)

_SWITCH: dict[Family, Path] = {
    "ipv4": Path("/proc/sys/net/ipv4/ip_forward"),
    "ipv6": Path("/proc/sys/net/ipv6/conf/all/forwarding"),
}
_IPV6_INTERFACES = Path("/proc/sys/net/ipv6/conf")
_PROGRAM: dict[Family, str] = {"ipv4": "iptables", "ipv6": "ip6tables"}


class ForwardingSwitch:
    """The switch of each family. closed: throwing it closes the way for everybody but containers, as Docker does."""

    def __init__(self, *, closed: bool) -> None:
        self._closed = closed

    def ensure(self, want: Forwarding) -> None:
        """The host forwards packets. One that did not before forwards no others': its FORWARD policy is DROP."""
        switch = _SWITCH[want.family]
        try:
            if switch.read_text(encoding="ascii").strip() != "0":
                return
            if self._closed:
                # First, so that there is no moment at which the host is a router for all.
                run([_PROGRAM[want.family], "--wait", "10", "-P", "FORWARD", "DROP"])
                log.info("%s forwarding is switched on, for containers only: FORWARD policy is DROP now", want.family)
            if want.family == "ipv6":
                _keep_router_advertisements()
            switch.write_text("1", encoding="ascii")
        except OSError as exc:
            raise KernelError("switch on", str(switch), exc.errno or 0, "is /proc/sys writable here?") from exc

    def remove(self, want: Forwarding) -> None:
        """Nothing is changed: others may by now rely on it."""

    def owned(self) -> Iterable[Forwarding]:
        """Return nothing: a switch carries no name."""
        return ()


def _keep_router_advertisements() -> None:
    """Interfaces that take router advertisements go on doing so: a host that forwards would ignore them, at 1."""
    for setting in _IPV6_INTERFACES.glob("*/accept_ra"):
        if setting.read_text(encoding="ascii").strip() == "1":
            setting.write_text("2", encoding="ascii")
