"""pynet put together: store, kernel modules, driver, HTTP."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from netplugin.admin.driver import AdminDriver
from netplugin.admin.events import happenings
from netplugin.cluster.access import ClusterSettings
from netplugin.cluster.agent import Agent
from netplugin.cluster.entries import is_expected
from netplugin.cluster.pools import SharedPools
from netplugin.cluster.start import open_directory
from netplugin.dns.resources import Named, NameServer
from netplugin.driver import NetworkDriver
from netplugin.engine.api import DEFAULT_ENGINES
from netplugin.engine.forgotten import Forgotten
from netplugin.engine.names import HeardNames
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
from netplugin.kernel.monitor import ENTRIES, ORDER, Monitor
from netplugin.kernel.nameserver import Names, NameServers
from netplugin.kernel.netlink import Netlink
from netplugin.kernel.overlay.fdb import VxlanFdb
from netplugin.kernel.overlay.guard import OverlayGuards
from netplugin.kernel.overlay.neighbours import Neighbours
from netplugin.kernel.overlay.prober import Prober
from netplugin.kernel.overlay.probes import ProbeRelays
from netplugin.kernel.overlay.tunnel import Tunnels
from netplugin.kernel.overlay.vxlan import VxlanDevices
from netplugin.kernel.ports.conntrack import Conntrack
from netplugin.kernel.ports.flows import tracked
from netplugin.kernel.ports.held import PortHolder, allow_many
from netplugin.kernel.probe import HostProbe, families_of_kernel, iptables_is_legacy
from netplugin.kernel.routes import HostNetworks
from netplugin.kernel.sysctl import Sysctls
from netplugin.kernel.traffic.announce import Announcer
from netplugin.kernel.traffic.antispoof import SourceGuards
from netplugin.kernel.traffic.redirects import Redirects
from netplugin.kernel.traffic.shaping import Shapers
from netplugin.kinds import open_store
from netplugin.overlay.keeper import WayKeeper
from netplugin.overlay.secret import FILE, HostKey
from netplugin.overlay.tunnel import Tunnel, TunnelPeer
from netplugin.publish.publisher import Publisher
from netplugin.resources import (
    Bridge,
    FdbEntry,
    Forwarding,
    HostPorts,
    Neighbour,
    NftPorts,
    NftRuleset,
    OverlayGuard,
    OverlayMember,
    OverlayProbes,
    Redirect,
    Ruleset,
    Shaper,
    SourceGuard,
    Sysctl,
    Veth,
    Vxlan,
)
from netplugin.wire import ScopeName
from pluginkit.errors import CommandError, Conflict
from pluginkit.events.ring import Events, Happening
from pluginkit.metrics import Metrics
from pluginkit.reconcile import Kernel
from pluginkit.server import create_admin_app, create_app
from pluginkit.service import Running

log = logging.getLogger(__name__)

DEFAULT_POOLS = PoolConfig()


def refuse_strangers(state_dir: Path) -> None:
    """This host has no endpoints: there are no records of any below `state_dir` yet.

    Raises: Conflict: it has, and pynet would take them away.
    """
    netlink = Netlink()
    try:
        strangers = sorted(veth.name for veth in Veths(netlink).owned())
    finally:
        netlink.close()
    if strangers:
        some = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
        raise Conflict(
            f"cannot begin with no records in {state_dir}: containers use networks of pynet on this host ({some}),"
            " which it would take away; give the directory that has their records (--state-dir; state.source of the"
            " managed plugin), or, if these are lost, start once with --start-over (PYNET_START_OVER=1)"
        )


class Plugin:
    """pynet in this process and network namespace."""

    def __init__(
        self,
        state_dir: Path,
        firewall: Name,
        pools: PoolConfig = DEFAULT_POOLS,
        engines: tuple[Path, ...] = DEFAULT_ENGINES,
        cluster: ClusterSettings | None = None,
        ephemeral_ports: range | None = None,
        scope: ScopeName = "local",
    ) -> None:
        """The kernel is as the records say, and the app answers from now on."""
        self._netlink = Netlink()
        activity = Activity()
        self._nfnetlink = Nfnetlink(activity.mark)
        self._ports = PortHolder(ephemeral_ports)
        backend = BACKENDS[firewall]
        families = families_of_kernel()
        # Both backends' modules are always there: what the one left behind is swept when the other takes over.
        nft = ByFamily(
            {family: Nftables(family, nftables.base(family), self._nfnetlink, activity) for family in families}
        )
        guards = OverlayGuards(self._nfnetlink)
        host_key = HostKey(state_dir / FILE)
        tunnels = Tunnels(self._netlink, lambda: host_key.private)
        self._sysctls = Sysctls()
        self._iptables = {family: Iptables(family, backend.iptables_base(family), activity) for family in families}
        self._servers = NameServers()
        vxlans = VxlanDevices(self._netlink)
        kernels: Mapping[type[Any], Kernel] = {
            Bridge: Bridges(self._netlink),
            Veth: Veths(self._netlink),
            OverlayGuard: guards,
            OverlayMember: guards,
            Tunnel: tunnels,
            TunnelPeer: tunnels,
            Vxlan: vxlans,
            OverlayProbes: ProbeRelays(self._nfnetlink),
            FdbEntry: VxlanFdb(self._netlink),
            Neighbour: Neighbours(self._netlink),
            Forwarding: ForwardingSwitch(closed=True),
            Sysctl: self._sysctls,
            Shaper: Shapers(self._netlink),
            Redirect: Redirects(self._netlink),
            SourceGuard: SourceGuards(self._netlink, self._nfnetlink),
            HostPorts: self._ports,
            Ruleset: ByFamily(self._iptables),
            NftRuleset: nft,
            NftPorts: nft,
            NameServer: self._servers,
            Named: Names(self._servers),
        }
        self._store = open_store(state_dir)
        self._metrics = Metrics("pynet")
        self._events = Events(happenings)
        self._drifts: list[str] = []
        probe = HostProbe(self._ports, self._netlink)
        self._announcer = Announcer(self._netlink)
        self._driver = NetworkDriver(
            self._store,
            kernels,
            backend,
            probe=probe,
            flows=Conntrack(),
            announcer=self._announcer,
            scope=scope,
            mtu_of=self._netlink.mtu_of,
            moved=self._events.moved,
        )
        ipam = IpamDriver(self._store, HostNetworks(self._netlink), pools)
        self._agent: Agent | None = None
        self._heard: HeardNames | None = None
        if cluster is not None:
            ways = probe.way_to, self._netlink.mtu_of
            directory = open_directory(self._store, cluster, *ways, lambda: host_key.public)
            self._agent, self._names = self._driver.take_part(
                directory, ipam.share(SharedPools(directory)), lambda: any(path.exists() for path in engines)
            )
            self._heard = HeardNames(engines, self._names)
        # Before the first look at the kernel, so that nothing that happens after it is missed.
        self._rules_tell_nobody = iptables_is_legacy()
        self._monitor = Monitor(activity, partial(is_expected, self._store), self._missed)
        self.forgotten = Forgotten(self._store, engines, self._driver.delete)
        self.publisher = Publisher(self._store, self._driver.change_endpoint, probe)
        self._prober = Prober(self._netlink)
        self.ways = WayKeeper(self._store, self._prober, vxlans.compute_checksums_in_software)
        collect = self.forgotten.collect
        etcd = self._agent.health if self._agent is not None else None
        self._admin = AdminDriver(self._store, firewall, self._put_right, collect, self.ways, tracked, etcd)
        self.reconcile()
        methods = (*self._driver.methods(self.forgotten.lost), *ipam.methods())
        if self._agent is not None:
            self._agent.start()
        if self._heard is not None:
            self._heard.start()
        self.app = create_app("pynet", ["NetworkDriver", "IpamDriver"], methods, self._metrics, self._events.failed)
        administering = (*self._admin.methods(), *self.publisher.methods(), *self._events.methods())
        self.admin = create_admin_app("pynet", administering, self._metrics, self._events.failed)

    def reconcile(self) -> None:
        """The kernel is as the records say; what could not be put right was logged and counted."""
        drifts, self._drifts = self._drifts, []
        outcome = self._driver.reconcile()
        self._metrics.reconciled(outcome)
        self._admin.reconciled(outcome)
        self._events.reconciled(outcome)
        if drifts and not outcome.failures:
            self._events.add(Happening("drift-repaired", text=", ".join(dict.fromkeys(drifts))))

    def _put_right(self) -> None:
        """The kernel is as the records say, and these are compared with what the cluster says, soon."""
        if self._agent is not None:
            self._agent.look_again()
        self.reconcile()

    def watch(self, wake: Callable[[], None]) -> None:
        """Never returns: `wake` is called whenever others changed what is ours; that was logged and counted."""

        def seen(what: str) -> None:
            self.drifted(what)
            wake()

        self._monitor.run(seen)

    def drifted(self, what: str) -> None:
        """What others changed was logged and counted; entries of overlays are right, all else is after a reconcile."""
        # The engine does that itself, whenever a network of its own comes or goes.
        log.log(logging.INFO if what == ORDER else logging.WARNING, "%s was changed by others; putting it right", what)
        self._metrics.drifted()
        if what != ORDER:
            self._events.add(Happening("drift-seen", text=what))
            self._drifts.append(what)
        if what.startswith(ENTRIES):
            # Frames are lost until they are right, and a reconcile, which asks programs too, can be slow.
            self._driver.repair_entries()

    def _missed(self) -> str:
        """Return what others have changed without any notice, in words; "" if there is nothing."""
        if path := self._sysctls.changed():
            return f"the sysctl {path}"
        try:
            damaged = self._rules_tell_nobody and any(rules.is_damaged() for rules in self._iptables.values())
        except CommandError as exc:
            # Somebody holds the lock for long; the next look is soon.
            log.info("cannot look at the firewall: %s", exc)
            return ""
        return "the firewall" if damaged else ""

    def close(self) -> None:
        """Records and sockets are closed, host ports no longer held; networks go on as they are."""
        if self._heard is not None:
            self._heard.close()
        if self._agent is not None:
            self._agent.close()
        for held in self._ports.owned():
            self._ports.remove(held)
        self.ways.close()
        self._prober.close()
        self._servers.close()
        self._announcer.close()
        self._monitor.close()
        self._netlink.close()
        self._nfnetlink.close()
        self._store.close()


def start(
    state_dir: Path,
    firewall: Name,
    pools: PoolConfig,
    engines: tuple[Path, ...],
    cluster: ClusterSettings | None,
    ephemeral_ports: range | None,
    scope: ScopeName,
) -> Running:
    """The plugin runs in this process; return what the service needs of it."""
    allow_many()
    plugin = Plugin(state_dir, firewall, pools, engines, cluster, ephemeral_ports, scope)
    threading.Thread(target=plugin.forgotten.run, daemon=True).start()
    threading.Thread(target=plugin.ways.run, name="ways", daemon=True).start()
    threading.Thread(target=plugin.publisher.watch, daemon=True).start()
    return Running(plugin.app, plugin.reconcile, plugin.watch, admin=plugin.admin)
