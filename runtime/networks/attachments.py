"""What containers have of networks: endpoints, the way out, published ports, DNS and /etc/hosts."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from runtime import sandbox
from runtime.errors import ApiError, Conflict, NotFound
from runtime.networks import files, gateways
from runtime.networks.dns import Client, Resolver
from runtime.networks.driver import Driver
from runtime.networks.endpoints import WHOLE, Endpoints
from runtime.networks.names import Names
from runtime.networks.records import Endpoint, Network, Ports, Target
from runtime.networks.request import PORT_MAP, check_wish, one_by_one, port_options
from runtime.networks.table import Table
from runtime.turns import Turns

PUBLISHED = "published"
_log = logging.getLogger(__name__)


class Attachments:
    """Containers in networks. Locks are taken in one order: the container's, then a network's."""

    def __init__(self, table: Table, endpoints: Endpoints, driver: Driver, turns: Turns) -> None:
        self._table, self._endpoints, self._driver, self._turns = table, endpoints, driver, turns
        self._names = Names()
        self._resolver = Resolver(self._names)

    def attach(self, target: Target, wishes: list[tuple[Network, dict[str, Any]]], ports: Ports) -> None:
        """The container is in all of the networks, found by its names, with the way out and its ports.

        Raises: ApiError: it is in none of them.
        """
        with self._turns.of(target.id):
            self._table.put_sandbox(target, ports)
            try:
                sandbox.loopback_up(target.netns)
                for network, wish in wishes:
                    self._enter(network, target, wish, ports)
                self._settle(target, ports)
                self._listen(target)
            except ApiError:
                self.detach(target.id)
                raise

    def enter(self, network: Network, target: Target, wish: dict[str, Any], ports: Ports) -> None:
        """The running container is in one more network.

        Raises: Conflict: it is in it already; ApiError: it is as it was.
        """
        with self._turns.of(target.id):
            if any(endpoint.network == network.id for endpoint in self._table.endpoints(target.id)):
                raise Conflict(
                    f"cannot connect container {target.name} to network {network.name}: endpoint with name"
                    f" {target.name} already exists in network {network.name}; disconnect it first"
                )
            known = self._table.sandbox(target.id)
            sandbox.loopback_up(target.netns)
            self._table.put_sandbox(target, ports)
            endpoint = self._enter(network, target, wish, ports)
            try:
                self._settle(target, ports)
                if not known:
                    self._listen(target)
            except ApiError:
                self._exit(network, endpoint, target)
                self._settle(target, ports)
                raise

    def leave(self, network: Network, container: str) -> None:
        """The container is not in the network; another one leads out of it, if there is one.

        Raises: NotFound: it was not.
        """
        with self._turns.of(container):
            mine = [endpoint for endpoint in self._table.endpoints(container) if endpoint.network == network.id]
            if not mine:
                raise NotFound(
                    f"cannot disconnect container {container[:12]} from network {network.name}: container"
                    f" {container[:12]} is not connected to network {network.name}; see docker network inspect"
                )
            known = self._table.sandbox(container)
            self._exit(network, mine[0], known[0] if known else None)
            if known:
                try:
                    self._settle(*known)
                except ApiError as exc:  # it may end just now; it has left in any case
                    _log.error("container %s has left network %s: %s", container[:12], network.name, exc)

    def detach(self, container: str) -> None:
        """The container is in no network. What a driver will not hear of is logged."""
        with self._turns.of(container):
            self._resolver.stop(container)
            known = self._table.sandbox(container)
            for endpoint in self._table.endpoints(container):
                self._exit(self._network(endpoint), endpoint, known[0] if known else None)
            self._table.drop_sandbox(container)

    def rename(self, container: str, name: str) -> None:
        """The container, if it is in any network, is found by its new name, and by the old one no more."""
        with self._turns.of(container):
            if (known := self._table.sandbox(container)) is None:
                return
            target = replace(known[0], name=name)
            self._table.put_sandbox(target, known[1])
            for endpoint in self._table.endpoints(container):
                if network := self._network(endpoint):
                    self._names.remove(endpoint.id)
                    self._names.add(network.name, endpoint, _names(target, endpoint))

    def recover(self, alive: Iterable[str]) -> None:
        """Containers that are not `alive` are in no network; the others have DNS again, and only whole endpoints."""
        living = set(alive)
        for container in {endpoint.container for endpoint in self._table.everything()} - living:
            self.detach(container)
        for target in self._table.sandboxes():
            if target.id not in living:
                self._table.drop_sandbox(target.id)
                continue
            for endpoint in self._table.endpoints(target.id):
                network = self._network(endpoint)
                if network is None or WHOLE not in endpoint.steps:
                    self._exit(network, endpoint, target)
                else:
                    self._names.add(network.name, endpoint, _names(target, endpoint))
            try:
                known = self._table.sandbox(target.id)
                self._settle(target, known[1] if known else {})
                self._listen(target)
            except ApiError as exc:
                _log.error("container %s has no DNS: %s", target.name, exc)

    def close(self) -> None:
        """Containers have no DNS until the daemon starts again; all else stays."""
        self._resolver.close()

    def ports(self, container: str) -> dict[str, list[dict[str, str]] | None]:
        """Return the container's exposed ports, and where each is published: NetworkSettings.Ports."""
        known = self._table.sandbox(container)
        shown: dict[str, list[dict[str, str]] | None] = dict.fromkeys(known[1] if known else {})
        protocols = {6: "tcp", 17: "udp", 132: "sctp"}
        for endpoint in self._table.endpoints(container):
            for binding in endpoint.published:
                key = f"{binding['Port']}/{protocols[binding['Proto']]}"
                hosts = [binding["HostIP"]] if binding.get("HostIP") else ["0.0.0.0", "::"]  # noqa: S104
                entries = [{"HostIp": host, "HostPort": str(binding["HostPort"])} for host in hosts]
                shown[key] = [
                    *(shown.get(key) or []),
                    *(entry for entry in entries if entry not in (shown.get(key) or [])),
                ]
        return shown

    def _enter(self, network: Network, target: Target, wish: dict[str, Any], ports: Ports) -> Endpoint:
        check_wish(network.name, wish)
        with self._turns.of(network.id):
            # Not before it is this thread's turn: another may have removed the network meanwhile.
            network = self._table.find(network.id)
            endpoint = self._endpoints.make(network, target, wish, ports)
        self._names.add(network.name, endpoint, _names(target, endpoint))
        return endpoint

    def _exit(self, network: Network | None, endpoint: Endpoint, target: Target | None) -> None:
        self._names.remove(endpoint.id)
        latest = next((e for e in self._table.endpoints(endpoint.container) if e.id == endpoint.id), endpoint)
        with self._turns.of(endpoint.network):
            self._endpoints.undo(network, latest, target)

    def _settle(self, target: Target, ports: Ports) -> None:
        """The best networks of the container lead out of it and publish its ports; its files say what is true."""
        mine = self._table.endpoints(target.id)
        networks = {endpoint.network: self._table.find(endpoint.network) for endpoint in mine}
        chosen = gateways.choose(mine, networks)
        out = {endpoint.id for endpoint in chosen if endpoint}
        # The old way out is withdrawn first: the new one may want the same ports.
        for endpoint in mine:
            if endpoint.external and endpoint.id not in out:
                self._driver.withdraw(networks[endpoint.network], endpoint)
                steps = tuple(step for step in endpoint.steps if step != PUBLISHED)
                self._table.put_endpoint(replace(endpoint, external=False, steps=steps, published=[]))
        for endpoint in self._table.endpoints(target.id):
            if endpoint.id in out and PUBLISHED not in endpoint.steps:
                self._publish(networks[endpoint.network], self._table.put_endpoint(replace(endpoint, external=True)),
                              target, ports)  # fmt: skip
        for v6, best in zip((False, True), chosen, strict=True):
            self._route(target, best, v6)
        files.write(target, self._table.endpoints(target.id), chosen[0].gateway4 if chosen[0] else "")

    def _route(self, target: Target, best: Endpoint | None, v6: bool) -> None:
        flag = "default_gateway6" if v6 else "default_gateway4"
        mine = self._table.endpoints(target.id)
        if [endpoint.id for endpoint in mine if getattr(endpoint, flag)] == ([best.id] if best else []):
            return
        gateway = (best.gateway6 if v6 else best.gateway4) if best else ""
        sandbox.set_default_route(target.netns, gateway, v6, best.ifname if best else "")
        for endpoint in mine:
            is_best = best is not None and endpoint.id == best.id
            if getattr(endpoint, flag) != is_best:
                changed = (replace(endpoint, default_gateway6=is_best) if v6 else
                           replace(endpoint, default_gateway4=is_best))  # fmt: skip
                self._table.put_endpoint(changed)

    def _publish(self, network: Network, endpoint: Endpoint, target: Target, ports: Ports) -> None:
        options = port_options(ports) | {"com.docker.network.driver.private.no_proxy_6to4": False}
        try:
            self._driver.publish(network, endpoint, options)
        except ApiError as exc:
            raise type(exc)(
                f"cannot publish the ports of container {target.name}: driver failed programming external connectivity"
                f" on endpoint {target.name} ({endpoint.id}): {exc}"
            ) from exc
        # A driver that tells where it has published them is believed; else they are where they were wanted.
        told = self._driver.facts(network, endpoint).get(PORT_MAP)
        wanted = [each for each in options[PORT_MAP] if each["HostPort"]]
        published = one_by_one(told) if isinstance(told, list) else wanted
        self._table.put_endpoint(replace(endpoint, steps=(*endpoint.steps, PUBLISHED), published=published))

    def _listen(self, target: Target) -> None:
        def networks() -> list[str]:
            return [endpoint.network for endpoint in self._table.endpoints(target.id)]

        def servers() -> list[str]:
            # Who cannot get out of its networks cannot ask outside either.
            outside = any(endpoint.external for endpoint in self._table.endpoints(target.id))
            return list(target.dns or files.host_resolver().servers) if outside else []

        self._resolver.serve(target.netns, Client(target.id, networks, servers))

    def _network(self, endpoint: Endpoint) -> Network | None:
        try:
            return self._table.find(endpoint.network)
        except NotFound:
            return None


def _names(target: Target, endpoint: Endpoint) -> list[str]:
    return [target.name, *(endpoint.wish.get("Aliases") or []), target.id[:12], target.hostname]
