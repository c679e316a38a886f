"""The verbs of NetworkDriver. Each moves a record to the next; the kernel follows in `Reconciler.transition`.

Source: docs/protocol.md. Deleting what is not there succeeds, for dockerd only logs such errors and would keep asking
nobody; creating what is there already succeeds if it is the same, for dockerd repeats a request whose answer it missed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from netplugin import external, parse, wire
from netplugin.cluster.agent import Agent
from netplugin.cluster.alone import Alone
from netplugin.cluster.directory import Directory
from netplugin.cluster.driver import Addresses, ClusterDriver
from netplugin.dns.driver import NameDriver
from netplugin.firewall.backends import Backend
from netplugin.kinds import ENDPOINTS, NETWORKS, POOLS
from netplugin.machine import Address, Announcer, Cluster, Flows, Probe
from netplugin.overlay.decide import decide
from netplugin.plan import bridge_name, gateway_of, plans, static_routes, veth_names
from netplugin.records import Endpoint, Network, PublishedPort
from netplugin.resources import FdbEntry, Neighbour
from netplugin.swarm.driver import SwarmDriver
from pluginkit.errors import Conflict, NotFound
from pluginkit.locks import Locks
from pluginkit.reconcile import Kernel, Moved, Outcome, Reconciler, untold
from pluginkit.server import Method
from pluginkit.store import Store

log = logging.getLogger(__name__)

# A killed engine's containers lose their links while their successors already start.
_STALE_HOLDER_WAIT_S = 3.0
_PUBLISH_ATTEMPTS = 3


class NetworkDriver:
    """NetworkDriver of one host. Locks are per network; two verbs on one network take turns."""

    def __init__(
        self,
        store: Store,
        kernels: Mapping[type[Any], Kernel],
        backend: Backend,
        *,
        probe: Probe,
        flows: Flows,
        announcer: Announcer,
        scope: wire.ScopeName = "local",
        mtu_of: Callable[[Address], int | None] = lambda _: None,
        moved: Moved = untold,
    ) -> None:
        """scope: "global" for networks of a swarm. mtu_of: the largest packet that leaves by an address of the host."""
        self._store, self._flows, self._announcer = store, flows, announcer
        self._plans = plans(backend)
        self._networks, self._endpoints = self._plans.networks, self._plans.endpoints
        self._reconciler = Reconciler(store, self._plans.all, kernels, moved)
        self._probe, self._locks, self._scope = probe, Locks(), scope
        self._swarm = SwarmDriver(store, self._reconciler, self._locks, self._plans, probe.way_to, mtu_of)
        alone = Alone(partial(store.rows, NETWORKS), probe.default_mtu)
        self._cluster: Cluster = self._swarm if scope == "global" else alone

    def take_part(
        self, directory: Directory, addresses: Addresses, names: Callable[[], bool] = lambda: False
    ) -> tuple[Agent, NameDriver]:
        """Overlays are the cluster's; return what listens to it, not yet started, and what is to be told of names.

        names: whether there is an engine that can be asked for them.
        """
        parts = self._store, self._reconciler, self._locks, self._plans
        self._cluster = agent = Agent(directory, ClusterDriver(*parts, directory, addresses), addresses, names)
        return agent, NameDriver(*parts, agent)

    def methods(self, lost: Callable[[], None] | None = None) -> tuple[Method, ...]:
        """Return the table from which the server is built. lost: told that a request about a network was lost."""
        ports = wire.ExternalConnectivityRequest
        allocate = partial(self._swarm.allocate_network, numbered=self._cluster is self._swarm)
        return (
            Method("NetworkDriver.GetCapabilities", None, lambda: wire.Capabilities(self._scope, self._scope)),
            Method("NetworkDriver.GwAllocCheck", wire.GwAllocCheckRequest, self.gw_alloc_check),
            Method("NetworkDriver.AllocateNetwork", wire.CreateNetworkRequest, allocate),
            Method("NetworkDriver.FreeNetwork", wire.NetworkRequest, self._swarm.free_network),
            Method("NetworkDriver.CreateNetwork", wire.CreateNetworkRequest, self.create_network, lost=lost),
            Method("NetworkDriver.DeleteNetwork", wire.NetworkRequest, self.delete_network, lost=lost),
            Method("NetworkDriver.CreateEndpoint", wire.CreateEndpointRequest, self.create_endpoint),
            Method("NetworkDriver.EndpointOperInfo", wire.EndpointRequest, self.endpoint_oper_info),
            Method("NetworkDriver.DeleteEndpoint", wire.EndpointRequest, self.delete_endpoint),
            Method("NetworkDriver.Join", wire.JoinRequest, self.join),
            Method("NetworkDriver.Leave", wire.EndpointRequest, self.leave),
            Method("NetworkDriver.ProgramExternalConnectivity", ports, self.program_external_connectivity),
            Method("NetworkDriver.RevokeExternalConnectivity", wire.EndpointRequest, self.revoke_external_connectivity),
            Method("NetworkDriver.DiscoverNew", wire.DiscoveryRequest, self._swarm.discover_new),
            Method("NetworkDriver.DiscoverDelete", wire.DiscoveryRequest, self._swarm.discover_delete),
        )

    def gw_alloc_check(self, request: wire.GwAllocCheckRequest) -> wire.GwAllocCheckAnswer:
        """Return whether the engine need not reserve a gateway address: the bridge bears one unless it is isolated.

        Raises: BadRequest: the options cannot be used; nothing has been reserved yet.
        """
        options = parse.parse_network_options(request.Options or {})
        return wire.GwAllocCheckAnswer(
            SkipIPv4=options.gateway_mode_ipv4 == "isolated", SkipIPv6=options.gateway_mode_ipv6 == "isolated"
        )

    def create_network(self, request: wire.CreateNetworkRequest) -> None:
        """The network exists, with its bridge and rules.

        Raises: BadRequest; Conflict: another network has the subnet, or this one exists with other properties.
        """
        network = parse.parse_network(request)
        self._check_same(network)  # before others have to make room for it
        self._evict_overlapping(network)
        try:
            with self._locks.hold(network.id):
                network = self._decided(network, self._check_same(network))
                self._reconciler.transition(self._networks, network.id, network)
        finally:
            # Whether it was made or not: what the cluster was told of it is to be compared with what is.
            if network.options.type == "overlay":
                self._cluster.look_again()

    def delete_network(self, request: wire.NetworkRequest) -> None:
        """The network is gone, with all endpoints that the engine forgot to delete."""
        self.delete(request.NetworkID)

    def delete(self, network_id: str) -> None:
        """The same, for a network that no request is about."""
        with self._locks.hold(network_id):
            for row in self._store.rows(ENDPOINTS, parent=network_id):
                self._drop(row.id)
            for remotes in self._plans.remotes:
                for remote in self._store.rows(remotes.kind, parent=network_id):
                    self._reconciler.transition(remotes, remote.id, None)
            network = self._store.get(NETWORKS, network_id)
            self._reconciler.transition(self._networks, network_id, None)
        if network is not None and network.current is not None and network.current.overlay is not None:
            self._cluster.look_again()

    def create_endpoint(self, request: wire.CreateEndpointRequest) -> wire.CreateEndpointAnswer:
        """The endpoint exists, its link ready to be moved; return the MAC address if the engine left it open.

        An older endpoint with the same address is gone: the engine gives an address only once, so it had died unheard.
        """
        with self._locks.hold(request.NetworkID):
            network = self._network(request.NetworkID)
            endpoint = parse.parse_endpoint(request, network)
            if (row := self._store.get(ENDPOINTS, endpoint.id)) is not None and row.parent != network.id:
                raise Conflict(f"cannot create endpoint {endpoint.id[:12]}: another network has it; delete it there")
            for stale in self._same_address(endpoint):
                log.warning("endpoint %s is stale: %s has its address now", stale[:12], endpoint.id[:12])
                self._drop(stale)
            self._cluster.claim(network, endpoint)
            try:
                self._reconciler.transition(self._endpoints, endpoint.id, endpoint, parent=network.id)
            except Exception:
                self._cluster.release(network, endpoint.id)
                raise
        # Docker takes any MAC address in the answer for an override, even the one that it had asked for.
        asked = request.Interface is not None and request.Interface.MacAddress
        return wire.CreateEndpointAnswer(wire.EndpointInterface(MacAddress="" if asked else endpoint.mac))

    def endpoint_oper_info(self, request: wire.EndpointRequest) -> dict[str, dict[str, list[wire.PublishedRun]]]:
        """Return the ports that the endpoint has on the host. dockerd wants them in a type that JSON cannot carry."""
        ports = endpoint.published if (endpoint := self._known(request)) else ()
        return {"Value": {external.PORT_MAP: external.runs_of(ports)}}

    def delete_endpoint(self, request: wire.EndpointRequest) -> None:
        """The endpoint is gone, with its link and ports."""
        with self._locks.hold(request.NetworkID):
            if (row := self._store.get(ENDPOINTS, request.EndpointID)) is not None and row.parent == request.NetworkID:
                self._drop(row.id)

    def join(self, request: wire.JoinRequest) -> wire.JoinAnswer:
        """The endpoint belongs to the sandbox; return the link for the engine to move there, and the gateways."""
        with self._locks.hold(request.NetworkID):
            network = self._network(request.NetworkID)
            endpoint = self._endpoint(request)
            self._change(replace(endpoint, sandbox=request.SandboxKey))
        name, peer = veth_names(endpoint.id)
        # dockerd does it itself from 28.0 on; a second time is no harm.
        self._announcer.announce_soon(
            bridge_name(network),
            name,
            endpoint.mac,
            endpoint.address4.ip if endpoint.address4 else None,
            endpoint.address6.ip if endpoint.address6 else None,
        )
        return wire.JoinAnswer(
            wire.InterfaceName(peer, network.options.interface_prefix),
            Gateway=gateway_of(network, "ipv4", endpoint.address4),
            GatewayIPv6=gateway_of(network, "ipv6", endpoint.address6),
            StaticRoutes=static_routes(network, endpoint),
        )

    def leave(self, request: wire.EndpointRequest) -> None:
        """The endpoint belongs to no sandbox and has no ports; its link stays until DeleteEndpoint."""
        with self._locks.hold(request.NetworkID):
            if endpoint := self._known(request):
                self._change(replace(endpoint, sandbox="", ports=(), former_ports=endpoint.ports, publications=()))

    def program_external_connectivity(self, request: wire.ExternalConnectivityRequest) -> None:
        """Exactly the ports of the port map are open on the host. An internal network opens none.

        Raises: Conflict, Exhausted: a port is taken; the endpoint's ports are what they were.
        """
        bindings = external.parse_port_map(request.Options)
        of_sandbox = partial(self._store.find, ENDPOINTS, None, "sandbox")
        for attempt in range(1, _PUBLISH_ATTEMPTS + 1):
            try:
                with self._locks.hold(request.NetworkID):
                    network = self._network(request.NetworkID)
                    endpoint = self._endpoint(request)
                    if network.internal:
                        return
                    wanting = external.with_ports_of_container(endpoint, bindings, of_sandbox)
                    ports = external.choose_ports(
                        bindings, network, wanting, self._probe.ephemeral_range(), self._probe.is_free
                    )
                    self._change(replace(endpoint, ports=ports))
                return
            except Conflict as exc:
                # An ephemeral port can be lost between choice and use; a dead endpoint's port can be had.
                if attempt == _PUBLISH_ATTEMPTS or not self._may_try_again(exc.holder, bindings):
                    raise

    def revoke_external_connectivity(self, request: wire.EndpointRequest) -> None:
        """The endpoint has no ports on the host."""
        with self._locks.hold(request.NetworkID):
            if endpoint := self._known(request):
                former = endpoint.ports or endpoint.former_ports
                self._change(replace(endpoint, ports=(), former_ports=former))

    def change_endpoint(self, about: wire.EndpointRequest, change: Callable[[Network, Endpoint], Endpoint]) -> None:
        """The endpoint is as `change` says, given what it and its network are. Raises: NotFound, and what it raises."""
        with self._locks.hold(about.NetworkID):
            self._change(change(self._network(about.NetworkID), self._endpoint(about)))

    def reconcile(self) -> Outcome:
        """Records and kernel agree, endpoints of dead sandboxes are gone; failures were logged."""
        with self._locks.hold_all():
            links = self._drop_stale({})
            outcome = self._reconciler.reconcile()
            # A link that went since was made anew, and nobody is at its other end.
            self._drop_stale(links)
        if self._cluster is self._swarm:
            # What a reboot took away, and what failed when it was told.
            self._swarm.look_again()
        return outcome

    def repair_entries(self) -> None:
        """Frames of overlays go where the records say; what failed was logged. Of all else nothing was looked at."""
        with self._locks.hold_all():
            self._reconciler.repair((FdbEntry, Neighbour))

    def _change(self, endpoint: Endpoint) -> None:
        row = self._store.get(ENDPOINTS, endpoint.id)
        before = row.current.published if row is not None and row.current is not None else ()
        self._reconciler.transition(self._endpoints, endpoint.id, endpoint)
        self._forget_flows(set(before) ^ set(endpoint.published))

    def _drop(self, endpoint_id: str) -> None:
        """The endpoint is gone, with everything that leads to it."""
        row = self._store.get(ENDPOINTS, endpoint_id)
        network = self._store.get(NETWORKS, row.parent) if row is not None else None
        self._reconciler.transition(self._endpoints, endpoint_id, None)
        if network is not None and network.current is not None:
            self._cluster.release(network.current, endpoint_id)
        self._forget_flows(row.current.published if row is not None and row.current is not None else ())

    def _forget_flows(self, ports: Iterable[PublishedPort]) -> None:
        """Flows to these ports, which now lead elsewhere, begin anew. A TCP connection has its own end."""
        for port in ports:
            for host in (port.host4, port.host6):
                if host is not None and port.protocol != "tcp":
                    self._flows.forget(port.protocol, host, port.host_port, port.count)

    def _network(self, network_id: str) -> Network:
        row = self._store.get(NETWORKS, network_id)
        if row is None or row.current is None:
            raise NotFound(f"cannot use network {network_id[:12]}: this driver never made it; delete and re-create it")
        return row.current

    def _known(self, request: wire.AboutEndpoint) -> Endpoint | None:
        """Return the endpoint if it is one of the network that the request names, whose lock alone is held."""
        row = self._store.get(ENDPOINTS, request.EndpointID)
        return row.current if row is not None and row.parent == request.NetworkID else None

    def _endpoint(self, request: wire.AboutEndpoint) -> Endpoint:
        endpoint = self._known(request)
        if endpoint is None:
            raise NotFound(f"cannot use endpoint {request.EndpointID[:12]}: it is not known; restart the container")
        return endpoint

    def _same_address(self, endpoint: Endpoint) -> set[str]:
        """Return the IDs of the other endpoints of the network with an address of this one."""
        rows = [
            row
            for field, address in (("address4", endpoint.address4), ("address6", endpoint.address6))
            if address is not None
            for row in self._store.find(ENDPOINTS, endpoint.network_id, field, str(address))
        ]
        return {row.id for row in rows} - {endpoint.id}

    def _is_stale(self, endpoint: Endpoint) -> bool:
        """Tell whether the endpoint had joined a sandbox that is no more: a link dies with the namespace it is in."""
        return bool(endpoint.sandbox) and not self._probe.link_index(veth_names(endpoint.id)[0])

    def _drop_stale(self, known: Mapping[str, int]) -> dict[str, int]:
        """The endpoints of dead sandboxes are gone; return the links of the others that joined one, by their IDs.

        known: what this returned before; whose link is another one since has lost it.
        """
        links: dict[str, int] = {}
        joined = [row.current for row in self._store.rows(ENDPOINTS) if row.current is not None and row.current.sandbox]
        for endpoint in joined:
            link = self._probe.link_index(veth_names(endpoint.id)[0])
            if link and known.get(endpoint.id, link) == link:
                links[endpoint.id] = link
            else:
                log.warning("endpoint %s is stale: its link died with its sandbox", endpoint.id[:12])
                self._drop(endpoint.id)
        return links

    def _may_try_again(self, holder: str, bindings: tuple[wire.PortBinding, ...]) -> bool:
        if not holder:
            return any(binding.HostPort == 0 or binding.HostPortEnd > binding.HostPort for binding in bindings)
        deadline = time.monotonic() + _STALE_HOLDER_WAIT_S
        while True:
            row = self._store.get(ENDPOINTS, holder)
            if row is None or row.current is None or self._is_stale(row.current):
                if row is not None:
                    with self._locks.hold(row.parent):
                        self._drop(holder)
                return True
            # Only while its engine is starting can a dead sandbox still have its link; the living are not waited for.
            if time.monotonic() > deadline or not self._probe.sandbox_is_gone(row.current.sandbox):
                return False
            time.sleep(0.1)

    def _check_same(self, network: Network) -> Network | None:
        """Return the network of that ID that there is, if any. Raises: Conflict: it has other properties."""
        row = self._store.get(NETWORKS, network.id)
        if row and row.current and row.current != self._decided(network, row.current):
            raise Conflict(f"cannot create network {network.id[:12]}: it exists with other properties; delete it")
        return row.current if row else None

    def _shares_pool(self, network: Network) -> bool:
        """Tell whether our own IPAM has given a subnet of `network` twice, in parts, so that both givings count."""
        given = [row.current.subnet for row in self._store.rows(POOLS) if row.current is not None]
        return any(given.count(str(subnet.pool)) > 1 for subnet in network.subnets)

    def _decided(self, network: Network, known: Network | None) -> Network:
        """Return `network` with what is decided once, at its creation."""
        if known is not None:
            return replace(network, mtu=known.mtu, adopted=known.adopted, kept=known.kept, overlay=known.overlay)
        bridge = network.options.bridge_name
        adopted = bool(bridge and self._probe.link_index(bridge))
        if network.options.type == "overlay":
            probe = self._probe
            return decide(network, probe.way_to, self._cluster.join, adopted=adopted, tunnel_lack=probe.tunnel_lack)
        return replace(
            network,
            mtu=network.options.mtu or self._probe.default_mtu() or network.mtu,
            adopted=adopted,
            kept=self._probe.addresses_of(bridge) if adopted else (),
        )

    def _evict_overlapping(self, network: Network) -> None:
        """No other network of the same address space overlaps: its pool was released, so its deletion was missed.

        Raises: Conflict: the other one is in use, or its subnet was given by another IPAM.
        """
        for row in self._store.rows(NETWORKS):
            other = row.current
            if other is None or other.id == network.id:
                continue
            if bridge_name(other) == bridge_name(network):
                raise Conflict(
                    f"cannot create network {network.id[:12]}: its bridge {bridge_name(network)} is that of network"
                    f" {other.id[:12]}; choose another name"
                )
            if not other.overlaps(network):
                continue
            endpoints = [child.current for child in self._store.rows(ENDPOINTS, parent=other.id)]
            alive = any(endpoint is not None and not self._is_stale(endpoint) for endpoint in endpoints)
            if alive or other.address_spaces != network.address_spaces or self._shares_pool(network):
                raise Conflict(
                    f"cannot create network {network.id[:12]}: its subnet overlaps with that of network"
                    f" {other.id[:12]}; choose another --subnet or delete that network"
                )
            log.warning("network %s is stale: %s has its subnet now", other.id[:12], network.id[:12])
            self.delete(other.id)
