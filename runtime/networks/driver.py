"""The verbs of NetworkDriver, as requests to the plugin of a network."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from runtime.errors import Failed
from runtime.networks.records import Endpoint, Network
from runtime.networks.request import network_options
from runtime.plugins.registry import Plugins
from runtime.plugins.transport import Refused, Unknown
from runtime.sandbox import Route

CAPABILITY = "NetworkDriver"
CONNECTED = 1


@dataclass(frozen=True)
class Joined:
    """Answer to Join. link: empty where there is none to be moved."""

    link: str
    prefix: str
    gateway4: str
    gateway6: str
    routes: tuple[Route, ...]


class Driver:
    """Speaks for the driver of any network."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins

    def check(self, name: str) -> bool:
        """The driver answers and is for networks of one machine; return whether it says which gateways it needs.

        Raises: Unreachable; NotFound; Failed: it answered nonsense.
        """
        answer = self._plugins.call(name, CAPABILITY, "GetCapabilities")
        if answer.get("Scope") not in ("local", "global"):
            raise Failed(f"cannot use driver {name}: invalid capability: expecting 'local' or 'global', got {answer}")
        return bool(answer.get("GwAllocChecker"))

    def skips_gateways(self, network: Network) -> tuple[bool, bool]:
        """Return whether the network needs no gateway of IPv4, of IPv6."""
        answer = self._plugins.call(network.driver, CAPABILITY, "GwAllocCheck", {"Options": network_options(network)})
        return bool(answer.get("SkipIPv4")), bool(answer.get("SkipIPv6"))

    def create_network(self, network: Network) -> None:
        """The driver has the network."""
        body = {
            "NetworkID": network.id,
            "Options": network_options(network),
            "IPv4Data": [pool.data() for pool in network.pools4],
            "IPv6Data": [pool.data() for pool in network.pools6],
        }
        self._plugins.call(network.driver, CAPABILITY, "CreateNetwork", body)

    def delete_network(self, network: Network) -> None:
        """The driver has no such network, or will hear of it."""
        self._plugins.tell(network.driver, CAPABILITY, "DeleteNetwork", {"NetworkID": network.id})

    def create_endpoint(self, network: Network, endpoint: Endpoint, options: dict[str, Any]) -> dict[str, str]:
        """The driver has the endpoint; return what it chose: of mac, address4, address6 those that nobody had.

        Raises: Refused; Failed: it changed what was given.
        """
        given = {
            "Address": endpoint.address4.cidr if endpoint.address4 else "",
            "AddressIPv6": endpoint.address6.cidr if endpoint.address6 else "",
            "MacAddress": endpoint.mac,
        }
        answer = self._ask(network, endpoint, "CreateEndpoint", Interface=given, Options=options)
        chosen = {key: str(value) for key, value in (answer.get("Interface") or {}).items() if value}
        for key, value in chosen.items():
            if given.get(key):
                what = "MAC address" if key == "MacAddress" else "address"
                raise Failed(f"driver modified interface {what}: {value}, and was given {given[key]}")
            try:
                if key.startswith("Address"):
                    ipaddress.ip_interface(value)
            except ValueError as exc:
                raise Failed(f"driver chose {key} {value!r}: {exc}") from exc
        return chosen

    def delete_endpoint(self, network: Network, endpoint: Endpoint) -> None:
        """The driver has no such endpoint, or will hear of it."""
        self._tell(network, endpoint, "DeleteEndpoint")

    def join(self, network: Network, endpoint: Endpoint, sandbox: str, options: dict[str, Any]) -> Joined:
        """The endpoint is in the sandbox, for the driver; return what is to be done there.

        Raises: Refused; Failed: its answer cannot be used.
        """
        answer = self._ask(network, endpoint, "Join", SandboxKey=sandbox, Options=options)
        name = answer.get("InterfaceName") or {}
        try:
            gateways = [str(ipaddress.ip_address(text)) if text else ""
                        for text in (answer.get("Gateway"), answer.get("GatewayIPv6"))]  # fmt: skip
            routes = tuple(
                Route(
                    str(ipaddress.ip_network(route["Destination"], strict=False)),
                    "" if route.get("RouteType") == CONNECTED else str(ipaddress.ip_address(route.get("NextHop"))),
                )
                for route in answer.get("StaticRoutes") or []
                if route.get("Destination")
            )
        except ValueError as exc:
            raise Failed(f"driver answered Join with what is no address: {exc}") from exc
        return Joined(name.get("SrcName") or "", name.get("DstPrefix") or "eth", gateways[0], gateways[1], routes)

    def leave(self, network: Network, endpoint: Endpoint) -> None:
        """The endpoint is in no sandbox, for the driver, or it will hear of it."""
        self._tell(network, endpoint, "Leave")

    def publish(self, network: Network, endpoint: Endpoint, options: dict[str, Any]) -> None:
        """The endpoint is reached from outside at its ports, if its driver does such a thing."""
        try:
            self._ask(network, endpoint, "ProgramExternalConnectivity", Options=options)
        except Unknown:
            return

    def withdraw(self, network: Network, endpoint: Endpoint) -> None:
        """The endpoint is not reached from outside any more, or the driver will hear that it is not to be."""
        try:
            self._tell(network, endpoint, "RevokeExternalConnectivity")
        except Unknown:
            return

    def facts(self, network: Network, endpoint: Endpoint) -> dict[str, Any]:
        """Return what the driver tells of the endpoint; nothing if it will not."""
        try:
            found = self._ask(network, endpoint, "EndpointOperInfo").get("Value")
        except Refused:
            return {}
        return found if isinstance(found, dict) else {}

    def _ask(self, network: Network, endpoint: Endpoint, method: str, **rest: Any) -> dict[str, Any]:
        body = {"NetworkID": network.id, "EndpointID": endpoint.id, **rest}
        return self._plugins.call(network.driver, CAPABILITY, method, body)

    def _tell(self, network: Network, endpoint: Endpoint, method: str) -> None:
        body = {"NetworkID": network.id, "EndpointID": endpoint.id}
        self._plugins.tell(network.driver, CAPABILITY, method, body)
