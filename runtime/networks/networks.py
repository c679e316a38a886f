"""Networks as the Engine API has them, and what the containers side asks for."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from runtime import sandbox
from runtime.errors import ApiError, BadParameter, Conflict, NotFound
from runtime.filters import Filters
from runtime.networks import view
from runtime.networks.attachments import Attachments
from runtime.networks.default_ipam import DEFAULT_POOLS, DefaultIpam
from runtime.networks.driver import CAPABILITY, Driver
from runtime.networks.endpoints import Endpoints
from runtime.networks.ipam import Ipam
from runtime.networks.records import Endpoint, Network, Ports, Target
from runtime.networks.request import check_network, check_wish, configs, port_options
from runtime.networks.table import BUILT_IN, DEFAULT, Table
from runtime.plugins.registry import Plugins
from runtime.state import State
from runtime.turns import Turns

DEFAULT_DRIVER = "pynet"
FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
Wanted = list[tuple[Network, dict[str, Any]]]
_log = logging.getLogger(__name__)


class Networks:
    """All networks. Threads may share it; the same network's callers take turns."""

    def __init__(self, state: State, plugins: Plugins, pools: Iterable[str] = DEFAULT_POOLS) -> None:
        self._plugins, self._turns = plugins, Turns()
        self._table, self._driver = Table(state), Driver(plugins)
        self._builtin_ipam = DefaultIpam(state, sandbox.host_subnets, pools)
        self._ipam = Ipam(self._builtin_ipam, plugins, sandbox.host_subnets)
        endpoints = Endpoints(self._table, self._ipam, self._driver)
        self._attachments = Attachments(self._table, endpoints, self._driver, self._turns)

    def create(self, body: dict[str, Any]) -> str:
        """The network is there, by its driver; return its id.

        Raises: Conflict: there is one of that name; ApiError: nothing of it is left.
        """
        name = check_network(body)
        with self._turns.of(f"name {name}"):
            if self._table.has(name):
                raise Conflict(
                    f"cannot create network {name}: network with name {name} already exists; remove it first"
                )
            driver, checks_gateways = self._driver_for(name, body.get("Driver") or "")
            created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            network = Network(secrets.token_hex(32), name, driver, body, created)
            with self._turns.of(network.id):
                self._make(network, checks_gateways)
            return network.id

    def _make(self, network: Network, checks_gateways: bool) -> None:
        try:
            skip4, skip6 = self._driver.skips_gateways(network) if checks_gateways else (False, False)
            self._table.put_network(network)
            if network.body.get("EnableIPv4") is not False:
                pools = self._ipam.request_pools(network, configs(network.body, v6=False), False, skip4)
                network = replace(network, pools4=tuple(pools))
                self._table.put_network(network)
            if network.body.get("EnableIPv6"):
                pools = self._ipam.request_pools(network, configs(network.body, v6=True), True, skip6)
                network = replace(network, pools6=tuple(pools))
                self._table.put_network(network)
            self._driver.create_network(network)
        except ApiError as exc:
            self._undo(network, tell_driver=False)
            raise type(exc)(f"cannot create network {network.name}: {exc}") from exc
        self._table.put_network(replace(network, ready=True))

    def _undo(self, network: Network, tell_driver: bool) -> None:
        """The network is gone, first from IPAM and then from its driver, as dockerd does it."""
        self._ipam.release_pools(network.ipam_driver, [*network.pools4, *network.pools6])
        if tell_driver:
            try:
                self._driver.delete_network(network)
            except ApiError as exc:
                _log.error("driver error deleting network %s: %s", network.name, exc)
        self._table.drop_network(network)

    def _driver_for(self, name: str, wanted: str) -> tuple[str, bool]:
        if wanted in BUILT_IN.values():
            raise BadParameter(
                f"cannot create network {name}: only one instance of {wanted!r} network is allowed; use it"
            )
        # `docker network create` without -d asks for "bridge", which pyrun leaves to a plugin.
        driver = self._plugins.full_name(DEFAULT_DRIVER if wanted in ("", "default", "bridge") else wanted)
        try:
            return driver, self._driver.check(driver)
        except NotFound as exc:
            known = ", ".join(self._plugins.implementing(CAPABILITY)) or "none"
            raise NotFound(f"cannot create network {name}: {exc} ({known} answers)") from exc

    def inspect(self, reference: str) -> dict[str, Any]:
        """Return the network, with its containers.

        Raises: NotFound; BadParameter.
        """
        network = self._table.find(reference)
        return view.network(network, [self._named(endpoint) for endpoint in self._table.members(network)])

    def list(self, filters: Filters) -> list[dict[str, Any]]:
        """Return the networks that fit, by name.

        Raises: BadParameter: a filter is unknown.
        """
        filters.check("list networks", FILTERS)
        networks = [network for network in self._table.networks() if network.ready]
        return [
            view.network(each, []) for each in networks if view.fits(each, bool(self._table.members(each)), filters)
        ]

    def remove(self, reference: str) -> None:
        """The network is gone. Its driver's refusal is logged alone, as with dockerd.

        Raises: NotFound; Conflict: containers are in it; BadParameter: it is built in.
        """
        network = self._table.find(reference)
        if network.name in BUILT_IN:
            raise BadParameter(
                f"cannot remove network {network.name}: it is pre-defined and cannot be removed; leave it"
            )
        with self._turns.of(network.id):
            network = self._table.find(network.id)
            if members := self._table.members(network):
                names = ", ".join(sorted(self._named(endpoint)[0] for endpoint in members))
                raise Conflict(
                    f"cannot remove network {network.name}: network {network.name} id {network.id} has active endpoints"
                    f" ({names}); disconnect them first"
                )
            self._table.put_network(replace(network, ready=False))
            self._undo(network, tell_driver=True)

    def prune(self, filters: Filters) -> dict[str, Any]:
        """Networks without containers are gone, the built-in and default ones apart; return their names."""
        filters.check("prune networks", ("label", "label!", "until"))
        if "until" in filters.wanted:
            raise BadParameter("cannot prune networks: pyrun has no filter until; leave it away")
        removed = []
        for network in self._table.networks():
            labels = network.body.get("Labels") or {}
            if network.name not in (*BUILT_IN, DEFAULT) and network.ready and filters.labels(labels):
                try:
                    self.remove(network.id)
                    removed.append(network.name)
                except (Conflict, NotFound):
                    continue  # somebody is in it, or has removed it just now
        return {"NetworksDeleted": removed}

    def check(self, wishes: dict[str, dict[str, Any]], ports: Ports) -> None:
        """A container may be created that will want this: the networks exist and the wishes make sense.

        Raises: NotFound; BadParameter; Unsupported.
        """
        for network, wish in self._wanted(wishes):
            check_wish(network.name, wish)
        port_options(ports)

    def attach_all(self, target: Target, wishes: dict[str, dict[str, Any]], ports: Ports) -> dict[str, dict[str, Any]]:
        """The container is in all of the networks; return NetworkSettings.Networks.

        wishes: EndpointSettings by network. ports: {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "81/udp": None}.

        Raises: ApiError: it is in none of them.
        """
        self._attachments.attach(target, self._wanted(wishes), ports)
        return self.settings(target.id)

    def connect(self, reference: str, target: Target, wish: dict[str, Any], ports: Ports) -> dict[str, Any]:
        """The running container is in one more network, its ports published from there if it is the best one.

        Return its EndpointSettings.

        Raises: ApiError: it is as it was.
        """
        [(network, wish)] = self._wanted({reference: wish})
        self._attachments.enter(network, target, wish, ports)
        return self.settings(target.id)[network.name]

    def disconnect(self, reference: str, container: str, force: bool = False) -> None:
        """The container is not in the network. With `force` it need not have been.

        Raises: NotFound.
        """
        try:
            self._attachments.leave(self._table.find(reference), container)
        except NotFound:
            if not force:
                raise

    def rename(self, container: str, name: str) -> None:
        """The container is found by its new name, and by the old one no more."""
        self._attachments.rename(container, name)

    def detach_all(self, container: str) -> None:
        """The container is in no network. Its namespace may be gone."""
        self._attachments.detach(container)

    def settings(self, container: str) -> dict[str, dict[str, Any]]:
        """Return NetworkSettings.Networks of the container."""
        known = self._table.sandbox(container)
        endpoints = self._table.endpoints(container)
        named = [(self._table.find(endpoint.network).name, endpoint) for endpoint in endpoints]
        return {name: view.settings(endpoint, known[0] if known else None) for name, endpoint in sorted(named)}

    def unplugged(self, name: str, wish: dict[str, Any]) -> dict[str, Any]:
        """Return the EndpointSettings of who wants this of a network, which may be gone, and is not in it."""
        return view.unplugged(self._table.find(name).id if self._table.has(name) else "", wish)

    def port_map(self, container: str) -> dict[str, Any]:
        """Return NetworkSettings.Ports of the container: what `docker port` and `docker ps` show."""
        return self._attachments.ports(container)

    def recover(self, alive: Iterable[str]) -> None:
        """After a crash: no network is half there, only containers `alive` are in any, and they have DNS again."""
        for network in self._table.networks():
            if not network.ready:
                self._undo(network, tell_driver=True)
        self._attachments.recover(alive)
        kept: dict[str, set[str]] = {}
        for network in self._table.networks():
            for pool in (*network.pools4, *network.pools6):
                kept[pool.id] = {cidr.partition("/")[0] for cidr in (pool.gateway, *pool.aux.values()) if cidr}
        for endpoint in self._table.everything():
            for address in (endpoint.address4, endpoint.address6):
                if address and address.pool in kept:
                    kept[address.pool].add(address.ip)
        self._builtin_ipam.keep(kept)

    def close(self) -> None:
        """The daemon may end: containers keep their networks, and have DNS again when it starts."""
        self._attachments.close()

    def _wanted(self, wishes: dict[str, dict[str, Any]]) -> Wanted:
        """Return each network with what is wished of it. The default one is made when first wanted."""
        found = {}
        for reference, wish in wishes.items():
            if reference in ("default", DEFAULT) and not self._table.has(DEFAULT):
                try:
                    self.create({"Name": DEFAULT, "Driver": DEFAULT_DRIVER})
                except Conflict:
                    _log.debug("network %s was made by another just now", DEFAULT)
            network = self._table.find(reference)
            if network.name in BUILT_IN:
                raise BadParameter(
                    f"cannot connect to network {network.name}: it cannot be beside other networks; name another"
                )
            if network.id in found:
                raise BadParameter(f"cannot connect to network {network.name} twice; name it once")
            found[network.id] = (network, wish or {})
        return list(found.values())

    def _named(self, endpoint: Endpoint) -> tuple[str, Endpoint]:
        known = self._table.sandbox(endpoint.container)
        return (known[0].name if known else endpoint.container[:12]), endpoint
