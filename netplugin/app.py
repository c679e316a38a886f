"""pynet put together: store, kernel modules, driver, HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from netplugin import kinds
from netplugin.driver import NetworkDriver
from netplugin.firewall import nftables
from netplugin.firewall.backends import BACKENDS, Name
from netplugin.ipam.driver import IpamDriver
from netplugin.ipam.pools import PoolConfig
from netplugin.kernel.bridge import Bridges
from netplugin.kernel.firewall.activity import Activity
from netplugin.kernel.firewall.by_family import ByFamily
from netplugin.kernel.firewall.iptables import Iptables
from netplugin.kernel.firewall.nfnetlink import Nfnetlink
from netplugin.kernel.firewall.nftables import Nftables
from netplugin.kernel.forwarding import ForwardingSwitch
from netplugin.kernel.links import Veths
from netplugin.kernel.monitor import Monitor
from netplugin.kernel.netlink import Netlink
from netplugin.kernel.ports.conntrack import Conntrack
from netplugin.kernel.ports.held import PortHolder, allow_many
from netplugin.kernel.probe import HostProbe, families_of_kernel
from netplugin.kernel.routes import HostNetworks
from netplugin.kernel.sysctl import Sysctls
from netplugin.kernel.traffic.announce import Announcer
from netplugin.kernel.traffic.antispoof import SourceGuards
from netplugin.kernel.traffic.shaping import Shapers
from netplugin.resources import (
    Bridge,
    Forwarding,
    HostPorts,
    NftPorts,
    NftRuleset,
    Ruleset,
    Shaper,
    SourceGuard,
    Sysctl,
    Veth,
)
from pluginkit.metrics import Metrics
from pluginkit.reconcile import Kernel
from pluginkit.server import create_app
from pluginkit.service import Running
from pluginkit.store import Store

log = logging.getLogger(__name__)

STATE_FILE = "pynet.db"
DEFAULT_POOLS = PoolConfig()


def open_store(state_dir: Path) -> Store:
    """Return the records below `state_dir`.

    Raises: StateError: they cannot be used.
    """
    return Store(state_dir / STATE_FILE, kinds.ALL, kinds.MIGRATIONS)


class Plugin:
    """pynet in this process and network namespace."""

    def __init__(self, state_dir: Path, firewall: Name, pools: PoolConfig = DEFAULT_POOLS) -> None:
        """The kernel is as the records say, and the app answers from now on."""
        self._netlink = Netlink()
        activity = Activity()
        self._nfnetlink = Nfnetlink(activity.mark)
        self._ports = PortHolder()
        backend = BACKENDS[firewall]
        families = families_of_kernel()
        # Both backends' modules are always there: what the one left behind is swept when the other takes over.
        nft = ByFamily(
            {family: Nftables(family, nftables.base(family), self._nfnetlink, activity) for family in families}
        )
        kernels: Mapping[type[Any], Kernel] = {
            Bridge: Bridges(self._netlink),
            Veth: Veths(self._netlink),
            Forwarding: ForwardingSwitch(closed=True),
            Sysctl: Sysctls(),
            Shaper: Shapers(self._netlink),
            SourceGuard: SourceGuards(self._netlink, self._nfnetlink),
            HostPorts: self._ports,
            Ruleset: ByFamily(
                {family: Iptables(family, backend.iptables_base(family), activity) for family in families}
            ),
            NftRuleset: nft,
            NftPorts: nft,
        }
        self._store = open_store(state_dir)
        self._metrics = Metrics("pynet")
        probe = HostProbe(self._ports, self._netlink)
        self._announcer = Announcer(self._netlink)
        self._driver = NetworkDriver(
            self._store, kernels, backend, probe=probe, flows=Conntrack(), announcer=self._announcer
        )
        # Before the first look at the kernel, so that nothing that happens after it is missed.
        self._monitor = Monitor(activity, self._driver.expects)
        self.reconcile()
        ipam = IpamDriver(self._store, HostNetworks(self._netlink), pools)
        methods = (*self._driver.methods(), *ipam.methods())
        self.app = create_app("pynet", ["NetworkDriver", "IpamDriver"], methods, self._metrics)

    def reconcile(self) -> None:
        """The kernel is as the records say; what could not be put right was logged and counted."""
        self._metrics.reconciled(self._driver.reconcile())

    def watch(self, wake: Callable[[], None]) -> None:
        """Never returns: `wake` is called whenever others changed what is ours; that was logged and counted."""

        def drifted(what: str) -> None:
            log.warning("%s was changed by others; putting it right", what)
            self._metrics.drifted()
            wake()

        self._monitor.run(drifted)

    def close(self) -> None:
        """Records and sockets are closed, host ports no longer held; networks go on as they are."""
        for held in self._ports.owned():
            self._ports.remove(held)
        self._announcer.close()
        self._monitor.close()
        self._netlink.close()
        self._nfnetlink.close()
        self._store.close()


def start(state_dir: Path, firewall: Name, pools: PoolConfig) -> Running:
    """The plugin runs in this process; return what the service needs of it."""
    allow_many()
    plugin = Plugin(state_dir, firewall, pools)
    return Running(plugin.app, plugin.reconcile, plugin.watch)
