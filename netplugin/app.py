"""pynet put together: store, kernel modules, driver, HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netplugin.driver import KINDS, MIGRATIONS, NetworkDriver
from netplugin.firewall import base
from netplugin.kernel.bridge import Bridges
from netplugin.kernel.iptables import Iptables
from netplugin.kernel.links import Veths
from netplugin.kernel.netlink import Netlink
from netplugin.kernel.ports import HostPorts
from netplugin.kernel.probe import HostProbe
from netplugin.kernel.rulesets import Rulesets
from netplugin.kernel.sysctl import Sysctls
from netplugin.resources import Bridge, HostPort, Ruleset, Sysctl, Veth
from pluginkit.metrics import Metrics
from pluginkit.reconcile import Kernel, Reconciler
from pluginkit.server import create_app
from pluginkit.service import Running
from pluginkit.store import Store

STATE_FILE = "pynet.db"


def open_store(state_dir: Path) -> Store:
    """Return the records below `state_dir`.

    Raises: StateError: they cannot be used.
    """
    return Store(state_dir / STATE_FILE, [planned.kind for planned in KINDS], MIGRATIONS)


def start(state_dir: Path) -> Running:
    """The kernel of this network namespace is as the records say; return the app that answers from now on."""
    netlink = Netlink()
    veths = Veths(netlink)
    ports = HostPorts()
    kernels: Mapping[type[Any], Kernel] = {
        Bridge: Bridges(netlink),
        Veth: veths,
        Sysctl: Sysctls(),
        HostPort: ports,
        Ruleset: Rulesets({family: Iptables(family, base(family)) for family in ("ipv4", "ipv6")}),
    }
    store = open_store(state_dir)
    driver = NetworkDriver(store, Reconciler(store, KINDS, kernels), HostProbe(ports, veths))
    metrics = Metrics("pynet")

    def reconcile() -> None:
        metrics.reconciled(driver.reconcile())

    reconcile()
    return Running(create_app("pynet", ["NetworkDriver"], driver.methods(), metrics), reconcile)
