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
from netplugin.plan import FAMILIES
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


class Plugin:
    """pynet in this process and network namespace."""

    def __init__(self, state_dir: Path) -> None:
        """The kernel is as the records say, and the app answers from now on."""
        self._netlink = Netlink()
        self._ports = HostPorts()
        veths = Veths(self._netlink)
        kernels: Mapping[type[Any], Kernel] = {
            Bridge: Bridges(self._netlink),
            Veth: veths,
            Sysctl: Sysctls(),
            HostPort: self._ports,
            Ruleset: Rulesets({family: Iptables(family, base(family)) for family in FAMILIES}),
        }
        self._store = open_store(state_dir)
        self._metrics = Metrics("pynet")
        self._driver = NetworkDriver(
            self._store, Reconciler(self._store, KINDS, kernels), HostProbe(self._ports, veths)
        )
        self.reconcile()
        self.app = create_app("pynet", ["NetworkDriver"], self._driver.methods(), self._metrics)

    def reconcile(self) -> None:
        """The kernel is as the records say; what could not be put right was logged and counted."""
        self._metrics.reconciled(self._driver.reconcile())

    def close(self) -> None:
        """Records and sockets are closed, host ports no longer held; networks go on as they are."""
        for held in self._ports.owned():
            self._ports.remove(held)
        self._netlink.close()
        self._store.close()


def start(state_dir: Path) -> Running:
    """The plugin runs in this process; return what the service needs of it."""
    plugin = Plugin(state_dir)
    return Running(plugin.app, plugin.reconcile)
