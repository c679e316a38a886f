"""One endpoint: made in dockerd's order, undone in the opposite one. Each step is remembered before it is taken.

Source: moby libnetwork/endpoint.go, sbJoin and sbLeave; libnetwork/network.go, createEndpoint.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from runtime import sandbox
from runtime.errors import ApiError
from runtime.networks.driver import Driver
from runtime.networks.ipam import Ipam
from runtime.networks.records import Address, Endpoint, Network, Ports, Target
from runtime.networks.request import ADVERTISE, endpoint_options, link_local, port_options
from runtime.networks.table import Table
from runtime.sandbox import Interface

WHOLE = "whole"
_log = logging.getLogger(__name__)


class Endpoints:
    """Endpoints of all networks. Whoever calls has the network's turn and the container's."""

    def __init__(self, table: Table, ipam: Ipam, driver: Driver) -> None:
        self._table, self._ipam, self._driver = table, ipam, driver

    def make(self, network: Network, target: Target, wish: dict[str, Any], ports: Ports) -> Endpoint:
        """The container has an interface in the network; return the endpoint. Its default route is not set yet.

        Raises: ApiError: nothing of it is left.
        """
        endpoint = self._table.put_endpoint(
            Endpoint(secrets.token_hex(32), network.id, target.id, wish, mac=(wish.get("MacAddress") or "").lower())
        )
        try:
            endpoint = self._reserve(network, endpoint)
            endpoint = self._create(network, endpoint, target, ports)
            return self._join(network, endpoint, target, ports)
        except ApiError as exc:
            self.undo(network, self._latest(endpoint), target)
            raise type(exc)(f"cannot connect container {target.name} to network {network.name}: {exc}") from exc

    def undo(self, network: Network | None, endpoint: Endpoint, target: Target | None) -> None:
        """Nothing is left of the endpoint; what its driver will not hear of is logged."""
        if network is not None:
            # Should the daemon die now, the next one goes on undoing.
            self._table.put_endpoint(replace(endpoint, steps=tuple(step for step in endpoint.steps if step != WHOLE)))
            steps = [
                ("external", endpoint.external, lambda: self._driver.withdraw(network, endpoint)),
                ("joined", "joined" in endpoint.steps, lambda: self._driver.leave(network, endpoint)),
                ("moved", bool(target and endpoint.ifname), lambda: self._move_out(endpoint, target)),
                ("created", "created" in endpoint.steps, lambda: self._driver.delete_endpoint(network, endpoint)),
            ]
            for step, done, action in steps:
                if done:
                    _tolerated(f"undo '{step}' of endpoint {endpoint.id[:12]} in network {network.name}", action)
            for address in (endpoint.address4, endpoint.address6):
                if address and address.pool:
                    self._ipam.release(network.ipam_driver, address)
        self._table.drop_endpoint(endpoint)

    def _reserve(self, network: Network, endpoint: Endpoint) -> Endpoint:
        config = endpoint.wish.get("IPAMConfig") or {}
        address4 = self._ipam.request(network, network.pools4, config.get("IPv4Address") or "", endpoint.mac)
        endpoint = self._table.put_endpoint(replace(endpoint, address4=address4))
        address6 = self._ipam.request(network, network.pools6, config.get("IPv6Address") or "", endpoint.mac)
        return self._table.put_endpoint(replace(endpoint, address6=address6))

    def _create(self, network: Network, endpoint: Endpoint, target: Target, ports: Ports) -> Endpoint:
        options = endpoint_options(endpoint.wish, ports, target.dns, network.internal)
        endpoint = self._table.put_endpoint(replace(endpoint, steps=("created",)))
        chosen = self._driver.create_endpoint(network, endpoint, options)
        endpoint = replace(
            endpoint,
            mac=chosen.get("MacAddress") or endpoint.mac,
            # What the driver chose is not IPAM's.
            address4=Address("", chosen["Address"]) if "Address" in chosen else endpoint.address4,
            address6=Address("", chosen["AddressIPv6"]) if "AddressIPv6" in chosen else endpoint.address6,
        )
        return self._table.put_endpoint(endpoint)

    def _join(self, network: Network, endpoint: Endpoint, target: Target, ports: Ports) -> Endpoint:
        endpoint = self._table.put_endpoint(replace(endpoint, steps=("created", "joined")))
        joined = self._driver.join(network, endpoint, str(target.netns), port_options(ports))
        endpoint = replace(endpoint, link=joined.link, gateway4=joined.gateway4, gateway6=joined.gateway6)
        self._table.put_endpoint(endpoint)
        addresses = tuple(each.cidr for each in (endpoint.address4, endpoint.address6) if each)
        if joined.link:
            own = addresses + link_local(network.name, endpoint.wish)
            wanted = Interface(joined.link, joined.prefix, endpoint.mac, own, joined.routes)
            endpoint = replace(endpoint, ifname=sandbox.adopt(target.netns, wanted))
        endpoint = self._table.put_endpoint(replace(endpoint, steps=(*endpoint.steps, WHOLE)))
        times, every_ms = (int(network.options.get(key, default)) for key, default in ADVERTISE.items())
        if endpoint.ifname and endpoint.mac and times:
            sandbox.announce(target.netns, endpoint.ifname, endpoint.mac, addresses, times, every_ms / 1000)
        return endpoint

    def _move_out(self, endpoint: Endpoint, target: Target | None) -> None:
        if target is not None:
            sandbox.release(target.netns, endpoint.ifname, endpoint.link)

    def _latest(self, endpoint: Endpoint) -> Endpoint:
        return next((each for each in self._table.endpoints(endpoint.container) if each.id == endpoint.id), endpoint)


def _tolerated(what: str, action: Callable[[], None]) -> None:
    try:
        action()
    except ApiError as exc:
        _log.warning("cannot %s: %s", what, exc)
