"""The verbs of NetworkDriver. Each moves a record to the next; the kernel follows in `Reconciler.transition`.

Source: docs/protocol.md. Deleting what is not there succeeds, for dockerd only logs such errors and would keep asking
nobody; creating what is there already succeeds if it is the same, for dockerd repeats a request whose answer it missed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_network
from typing import Any

from netplugin import external, parse, wire
from netplugin.firewall.backends import Backend
from netplugin.firewall.policy import gateway_mode
from netplugin.kinds import ENDPOINTS, NETWORKS, POOLS
from netplugin.machine import Announcer, Flows, Probe
from netplugin.plan import bridge_name, plan_endpoint, plan_network, veth_names
from netplugin.records import Endpoint, Network, PublishedPort
from netplugin.resources import Family
from pluginkit.errors import Conflict, NotFound
from pluginkit.locks import Locks
from pluginkit.reconcile import Kernel, Outcome, Planned, Reconciler
from pluginkit.server import Method
from pluginkit.store import Kind, Store

log = logging.getLogger(__name__)


def planned(backend: Backend) -> tuple[Planned[Network], Planned[Endpoint]]:
    """Return the kinds of records with what they mean under a firewall backend."""
    return (
        Planned(NETWORKS, lambda network, _: plan_network(network, backend)),
        Planned(ENDPOINTS, lambda endpoint, network: plan_endpoint(endpoint, network, backend), parent=NETWORKS),
    )


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
    ) -> None:
        self._store = store
        self._flows = flows
        self._announcer = announcer
        self._networks, self._endpoints = planned(backend)
        self._reconciler = Reconciler(store, (self._networks, self._endpoints), kernels)
        self._probe = probe
        self._locks = Locks()

    def methods(self) -> tuple[Method, ...]:
        """Return the table from which the server is built."""
        return (
            Method("NetworkDriver.GetCapabilities", None, wire.Capabilities),
            Method("NetworkDriver.GwAllocCheck", wire.GwAllocCheckRequest, self.gw_alloc_check),
            Method("NetworkDriver.AllocateNetwork", wire.CreateNetworkRequest, self.allocate_network),
            Method("NetworkDriver.FreeNetwork", wire.NetworkRequest, self.free_network),
            Method("NetworkDriver.CreateNetwork", wire.CreateNetworkRequest, self.create_network),
            Method("NetworkDriver.DeleteNetwork", wire.NetworkRequest, self.delete_network),
            Method("NetworkDriver.CreateEndpoint", wire.CreateEndpointRequest, self.create_endpoint),
            Method("NetworkDriver.EndpointOperInfo", wire.EndpointRequest, self.endpoint_oper_info),
            Method("NetworkDriver.DeleteEndpoint", wire.EndpointRequest, self.delete_endpoint),
            Method("NetworkDriver.Join", wire.JoinRequest, self.join),
            Method("NetworkDriver.Leave", wire.EndpointRequest, self.leave),
            Method(
                "NetworkDriver.ProgramExternalConnectivity",
                wire.ExternalConnectivityRequest,
                self.program_external_connectivity,
            ),
            Method("NetworkDriver.RevokeExternalConnectivity", wire.EndpointRequest, self.revoke_external_connectivity),
            Method("NetworkDriver.DiscoverNew", wire.DiscoveryRequest, self.discover),
            Method("NetworkDriver.DiscoverDelete", wire.DiscoveryRequest, self.discover),
        )

    def gw_alloc_check(self, request: wire.GwAllocCheckRequest) -> wire.GwAllocCheckAnswer:
        """Return whether the engine need not reserve a gateway address: the bridge bears one unless it is isolated.

        Raises: BadRequest: the options cannot be used; nothing has been reserved yet.
        """
        options = parse.parse_network_options(request.Options or {})
        return wire.GwAllocCheckAnswer(
            SkipIPv4=options.gateway_mode_ipv4 == "isolated", SkipIPv6=options.gateway_mode_ipv6 == "isolated"
        )

    def allocate_network(self, request: wire.CreateNetworkRequest) -> wire.AllocateNetworkAnswer:
        """Return the options unchanged: a bridge needs nothing that a swarm manager could hand out."""
        options = request.Options or {}
        return wire.AllocateNetworkAnswer({key: value for key, value in options.items() if isinstance(value, str)})

    def free_network(self, _request: wire.NetworkRequest) -> None:
        """Nothing is held on a manager, so nothing is freed."""

    def discover(self, _request: wire.DiscoveryRequest) -> None:
        """A bridge ends at its host: other nodes make no difference."""

    def create_network(self, request: wire.CreateNetworkRequest) -> None:
        """The network exists, with its bridge and rules.

        Raises: BadRequest; Conflict: another network has the subnet, or this one exists with other properties.
        """
        network = parse.parse_network(request)
        self._evict_overlapping(network)
        with self._locks.hold(network.id):
            row = self._store.get(NETWORKS, network.id)
            known = row.current if row else None
            network = self._decided(network, known)
            if known not in (None, network):
                raise Conflict(f"cannot create network {network.id[:12]}: it exists with other properties; delete it")
            self._reconciler.transition(self._networks, network.id, network)

    def delete_network(self, request: wire.NetworkRequest) -> None:
        """The network is gone, with all endpoints that the engine forgot to delete."""
        with self._locks.hold(request.NetworkID):
            for row in self._store.rows(ENDPOINTS, parent=request.NetworkID):
                self._drop(row.id)
            self._reconciler.transition(self._networks, request.NetworkID, None)

    def create_endpoint(self, request: wire.CreateEndpointRequest) -> wire.CreateEndpointAnswer:
        """The endpoint exists, its link ready to be moved; return the MAC address if the engine left it open.

        An older endpoint with the same address is gone: the engine gives an address only once, so it had died unheard.
        """
        with self._locks.hold(request.NetworkID):
            network = self._network(request.NetworkID)
            endpoint = parse.parse_endpoint(request, network)
            for stale in self._same_address(endpoint):
                log.warning("endpoint %s is stale: %s has its address now", stale[:12], endpoint.id[:12])
                self._drop(stale)
            self._reconciler.transition(self._endpoints, endpoint.id, endpoint, parent=network.id)
        # Docker takes any MAC address in the answer for an override, even the one that it had asked for.
        asked = request.Interface is not None and request.Interface.MacAddress
        return wire.CreateEndpointAnswer(wire.EndpointInterface(MacAddress="" if asked else endpoint.mac))

    def endpoint_oper_info(self, _request: wire.EndpointRequest) -> dict[str, dict[str, str]]:
        """Return nothing: dockerd reads two values only, and in types that JSON cannot carry."""
        return {"Value": {}}

    def delete_endpoint(self, request: wire.EndpointRequest) -> None:
        """The endpoint is gone, with its link and ports."""
        with self._locks.hold(request.NetworkID):
            self._drop(request.EndpointID)

    def join(self, request: wire.JoinRequest) -> wire.JoinAnswer:
        """The endpoint belongs to the sandbox; return the link for the engine to move there, and the gateways."""
        with self._locks.hold(request.NetworkID):
            network = self._network(request.NetworkID)
            endpoint = self._endpoint(request.EndpointID)
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
            Gateway=_gateway(network, "ipv4", endpoint.address4),
            GatewayIPv6=_gateway(network, "ipv6", endpoint.address6),
            StaticRoutes=_static_routes(network, endpoint),
        )

    def leave(self, request: wire.EndpointRequest) -> None:
        """The endpoint belongs to no sandbox and has no ports; its link stays until DeleteEndpoint."""
        with self._locks.hold(request.NetworkID):
            row = self._store.get(ENDPOINTS, request.EndpointID)
            if row is not None and row.current is not None:
                self._change(replace(row.current, sandbox="", ports=(), former_ports=row.current.ports))

    def program_external_connectivity(self, request: wire.ExternalConnectivityRequest) -> None:
        """Exactly the ports of the port map are open on the host. An internal network opens none.

        Raises: Conflict, Exhausted: a port is taken; the endpoint's ports are what they were.
        """
        bindings = external.parse_port_map(request.Options)
        for attempt in range(1, _PUBLISH_ATTEMPTS + 1):
            try:
                with self._locks.hold(request.NetworkID):
                    network = self._network(request.NetworkID)
                    endpoint = self._endpoint(request.EndpointID)
                    if network.internal:
                        return
                    wanting = self._with_ports_of_container(endpoint, bindings)
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
            row = self._store.get(ENDPOINTS, request.EndpointID)
            if row is not None and row.current is not None:
                former = row.current.ports or row.current.former_ports
                self._change(replace(row.current, ports=(), former_ports=former))

    def reconcile(self) -> Outcome:
        """Records and kernel agree, endpoints of dead sandboxes are gone; failures were logged."""
        with self._locks.hold_all():
            for row in self._store.rows(ENDPOINTS):
                if row.current is not None and self._is_stale(row.current):
                    log.warning("endpoint %s is stale: its link died with its sandbox", row.id[:12])
                    self._drop(row.id)
            return self._reconciler.reconcile()

    def expects(self, kind: str, name: str) -> bool:
        """Tell whether a "link" of that alias, an "address" or "forwarding" should be there, with no move under way."""
        if kind == "link":
            _, what, record_id = name.split(" ", 2)
            kind_of_record: Kind[Any] = NETWORKS if what == "network" else ENDPOINTS
            row = self._store.get(kind_of_record, record_id)
            return row is not None and row.current is not None and not row.pending
        networks = [row.current for row in self._store.rows(NETWORKS) if row.current is not None and not row.pending]
        if kind == "forwarding":
            return any(not network.internal for network in networks)
        return any(str(subnet.gateway) == name for network in networks for subnet in network.subnets)

    def _change(self, endpoint: Endpoint) -> None:
        row = self._store.get(ENDPOINTS, endpoint.id)
        before = row.current.ports if row is not None and row.current is not None else ()
        self._reconciler.transition(self._endpoints, endpoint.id, endpoint)
        self._forget_flows(set(before) ^ set(endpoint.ports))

    def _drop(self, endpoint_id: str) -> None:
        """The endpoint is gone, with everything that leads to it."""
        row = self._store.get(ENDPOINTS, endpoint_id)
        self._reconciler.transition(self._endpoints, endpoint_id, None)
        self._forget_flows(row.current.ports if row is not None and row.current is not None else ())

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

    def _endpoint(self, endpoint_id: str) -> Endpoint:
        row = self._store.get(ENDPOINTS, endpoint_id)
        if row is None or row.current is None:
            raise NotFound(f"cannot use endpoint {endpoint_id[:12]}: it is not known; restart the container")
        return row.current

    def _with_ports_of_container(self, endpoint: Endpoint, bindings: tuple[wire.PortBinding, ...]) -> Endpoint:
        """Return the endpoint; if it never had ports, with those that its container had last on another network.

        The engine moves the ports of a container to another endpoint when its gateway changes.
        """
        chosen = any(not binding.HostPort or binding.HostPortEnd > binding.HostPort for binding in bindings)
        if not chosen or not endpoint.sandbox or endpoint.ports or endpoint.former_ports:
            return endpoint
        others = (row.current for row in self._store.rows(ENDPOINTS) if row.current is not None)
        former = (other.former_ports for other in others if other.sandbox == endpoint.sandbox)
        return replace(endpoint, former_ports=next(filter(None, former), ()))

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
        return bool(endpoint.sandbox) and not self._probe.link_exists(veth_names(endpoint.id)[0])

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

    def _shares_pool(self, network: Network) -> bool:
        """Tell whether our own IPAM has given a subnet of `network` twice, in parts, so that both givings count."""
        given = [row.current.subnet for row in self._store.rows(POOLS) if row.current is not None]
        return any(given.count(str(subnet.pool)) > 1 for subnet in network.subnets)

    def _decided(self, network: Network, known: Network | None) -> Network:
        """Return `network` with what is decided once, at its creation."""
        if known is not None:
            return replace(network, mtu=known.mtu, adopted=known.adopted, kept=known.kept)
        bridge = network.options.bridge_name
        adopted = bool(bridge) and self._probe.link_exists(bridge)
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
            if not _overlap(other, network):
                continue
            endpoints = [child.current for child in self._store.rows(ENDPOINTS, parent=other.id)]
            alive = any(endpoint is not None and not self._is_stale(endpoint) for endpoint in endpoints)
            if alive or _address_spaces(other) != _address_spaces(network) or self._shares_pool(network):
                raise Conflict(
                    f"cannot create network {network.id[:12]}: its subnet overlaps with that of network"
                    f" {other.id[:12]}; choose another --subnet or delete that network"
                )
            log.warning("network %s is stale: %s has its subnet now", other.id[:12], network.id[:12])
            self.delete_network(wire.NetworkRequest(other.id))


def _gateway(network: Network, family: Family, address: IPv4Interface | IPv6Interface | None) -> str:
    """Return the gateway of the subnet that holds `address`; "" if there is none or it leads nowhere."""
    if address is None or network.internal or gateway_mode(network, family) == "isolated":
        return ""
    subnets = (subnet for subnet in network.subnets if address.ip in subnet.pool)
    return next((str(subnet.router or subnet.gateway or "") for subnet in subnets), "")


def _static_routes(network: Network, endpoint: Endpoint) -> list[wire.StaticRoute]:
    """Return the network's routes in the families that the endpoint has; not those that lead to the endpoint itself."""
    addresses = [address for address in (endpoint.address4, endpoint.address6) if address is not None]
    versions = {address.version for address in addresses}
    own = {str(address.ip) for address in addresses}
    return [
        wire.StaticRoute(route.destination, 0 if route.next_hop else 1, route.next_hop)
        for route in network.options.routes
        if ip_network(route.destination).version in versions and route.next_hop not in own
    ]


def _overlap(one: Network, other: Network) -> bool:
    pairs = ((a.pool, b.pool) for a in one.subnets for b in other.subnets)
    return any(a.version == b.version and a.overlaps(b) for a, b in pairs)


def _address_spaces(network: Network) -> set[str]:
    return {subnet.address_space for subnet in network.subnets}
