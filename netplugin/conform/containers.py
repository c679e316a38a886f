"""A stage on a Docker engine: networks of any of its drivers, containers that only sleep, and somebody outside.

outside ── conform0 ── host ── a network of the driver's ── containers

Everything is made by the engine and carries one label; `conform0` goes with the container that is outside.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from netplugin.conform.case import Kind
from netplugin.conform.place import Place
from netplugin.conform.stage import ENDPOINTS, NARROW_MTU, NETWORKS, WIRES, Endpoint, EndpointPlan
from pluginkit.conform.case import NotOffered
from pluginkit.conform.containers import Containers
from pluginkit.engine.api import Refused
from pluginkit.errors import NotFound, PluginError

_LABEL = "pynet.conform"
_IMAGE = "pynet-conform"
_LINK = "conform0"
_NUMBERS = {name: number for number, name in enumerate(NETWORKS, 20)}
# What pynet has beyond Docker's own options; of other drivers nobody here knows anything.
_OFFERS = {"pynet": frozenset({"anti_spoof", "rates", "publish_from"})}


class ContainerStage:
    """Networks of one driver of the engine on that Unix socket. Close it: then the engine has none of it any more."""

    kind: Kind = "bridge"

    def __init__(self, engine: Path, driver: str) -> None:
        self.driver = driver
        self._containers = Containers(engine, _IMAGE, _LABEL)
        short = driver.rpartition("/")[2].partition(":")[0]
        self.offers = frozenset({"comes"}) | _OFFERS.get(short, frozenset())
        self._endpoints: dict[str, Endpoint] = {}
        self._refused: dict[str, str] = {}
        self.close()
        try:
            self._containers.bring_image()
            self.outside = self._hang_outside()
            self.host = _place(Path("/proc/self/ns/net"), _LINK)
            self._lead()
        except BaseException:
            self.close()
            raise

    def _hang_outside(self) -> Place:
        """Somebody is on the other end of a wire of the host's."""
        pid = self._containers.run("outside", {"NetworkMode": "none"})
        namespace = Path(f"/proc/{pid}/ns/net")
        host = Place(Path("/proc/self/ns/net"), _LINK, "")
        with suppress(PluginError):
            # Of a run that was killed.
            host.run("ip", "link", "del", _LINK)
        host.run("ip", "link", "add", _LINK, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        there = Place(namespace, "eth0", "")
        # An engine turns it off where it gives no address of that version.
        there.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.eth0.disable_ipv6=0")
        for version, wire in WIRES.items():
            plain = ["nodad"] * (version == 6)
            host.run("ip", "addr", "add", f"{wire.host}/{wire.bits}", "dev", _LINK, *plain)
            for address in (wire.outside, wire.narrow):
                there.run("ip", "addr", "add", f"{address}/{wire.bits}", "dev", "eth0", *plain)
        host.run("ip", "link", "set", _LINK, "up")
        there.run("ip", "link", "set", "eth0", "up")
        return _place(namespace, "eth0")

    def _lead(self) -> None:
        """Routes and neighbours are those that the cases' addresses need."""
        for version, wire in WIRES.items():
            self.host.run("ip", "neigh", "replace", wire.ghost, "lladdr", self.outside.mac, "dev", _LINK)
            route = ["ip", f"-{version}", "route", "add"]
            self.host.run(*route, wire.narrow_net, "via", wire.outside, "mtu", "lock", str(NARROW_MTU))
            self.outside.run(*route, "default", "via", wire.host)

    def endpoint(self, name: str) -> Endpoint:
        """Return the endpoint of that name, which there is from now on.

        Raises: NotOffered: the driver has no such network, or the engine made none.
        """
        plan = ENDPOINTS[name]
        for what in (plan.network, name):
            if what in self._refused:
                raise NotOffered(self._refused[what])
        if name not in self._endpoints:
            self._endpoints[name] = self._attach(name, plan)
        return self._endpoints[name]

    def _attach(self, name: str, plan: EndpointPlan) -> Endpoint:
        if plan.far:
            raise NotOffered("there is no other host")
        self._create_network(plan.network)
        exposed: dict[str, Any] = {}
        for port in plan.ports:
            for offset in range(port.count):
                bound = {"HostIp": port.host_ip, "HostPort": str(port.host + offset)}
                exposed.setdefault(f"{port.container + offset}/{port.protocol}", []).append(bound)
        network = f"{_IMAGE}-{plan.network}"
        try:
            told_to = {"NetworkMode": network, "PortBindings": exposed}
            pid = self._containers.run(name, told_to, exposed={port: {} for port in exposed})
        except Refused as exc:
            raise self._refuse(name, exc) from exc
        told = self._containers.inspect(name)["NetworkSettings"]["Networks"][network]
        addresses = {4: told["IPAddress"], 6: told["GlobalIPv6Address"]}
        gateways = {4: told["Gateway"], 6: told["IPv6Gateway"]}
        return Endpoint(name, plan.network, _place(Path(f"/proc/{pid}/ns/net"), "eth0"), addresses, gateways)

    def _create_network(self, name: str) -> None:
        full = f"{_IMAGE}-{name}"
        plan, number = NETWORKS[name], _NUMBERS[name]
        if plan.needs and plan.needs not in self.offers:
            raise NotOffered(f"{self.driver} has no {plan.needs}")
        if any(network["Name"] == full for network in self._containers.get("/networks")):
            return
        # For benchmarks of networks, as the wire's: in use nowhere.
        pools = [
            {"Subnet": f"198.19.{number}.0/24", "Gateway": f"198.19.{number}.1"},
            {"Subnet": f"fd98:{number}::/64", "Gateway": f"fd98:{number}::1"},
        ]
        creation = {
            "Name": full,
            "Driver": self.driver,
            "Internal": plan.internal,
            "EnableIPv6": True,
            "IPAM": {"Config": pools},
            "Options": dict(plan.options),
            "Labels": {_LABEL: ""},
        }
        try:
            self._containers.ask("POST", "/networks/create", creation)
        except Refused as exc:
            raise self._refuse(name, exc) from exc

    def _refuse(self, name: str, exc: Refused) -> NotOffered:
        # Its own words are enough: they name what it was asked for by an ID that is gone in a moment.
        self._refused[name] = f"the engine made no {name}: {exc.status}: {exc.reason}"
        return NotOffered(self._refused[name])

    def leave(self, name: str) -> None:
        """There is no endpoint of that name."""
        self._endpoints.pop(name, None)
        self._containers.leave(name)

    def close(self) -> None:
        """The engine has nothing any more that carries our label, from this run or an earlier one."""
        self._containers.close()
        for network in self._containers.labelled("networks"):
            self._containers.ask("DELETE", f"/networks/{network['Id']}")
        self._endpoints = {}


def _place(namespace: Path, link: str) -> Place:
    told = json.loads(Place(namespace, link, "").run("ip", "-json", "link", "show", "dev", link))
    if not told:
        raise NotFound(f"cannot find {link} in {namespace}: the engine calls its containers' links otherwise")
    return Place(namespace, link, told[0]["address"])
