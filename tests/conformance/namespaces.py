"""A stage without an engine: real pynets on two hosts, to which the test speaks as an engine does.

outside ─┐
host A ──┼── wire        Each is a network namespace; each container is another one. Host B is there for overlays.
host B ──┘
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from netplugin.conform.case import Kind
from netplugin.conform.place import Place
from netplugin.conform.stage import ENDPOINTS, NARROW_MTU, NETWORKS, WIRES, Endpoint, Port
from pluginkit.conform.case import NotOffered
from tests.network.sandboxes import Sandbox, enter
from tests.serving import Serving

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
VXLAN_PORT = 14789
NUMBERS = {name: number for number, name in enumerate(NETWORKS, 20)}
ADDRESSES = {name: number for number, name in enumerate(ENDPOINTS, 2)}
FIREWALL_PACKAGES = "iptables", "ip6tables"


class Machine(Sandbox):
    """A namespace with eth0 on the wire."""

    def __init__(self, wire: Sandbox, name: str, number: int) -> None:
        super().__init__()
        self.mac = f"02:00:c6:12:00:{number:02x}"
        port = f"port{number}"
        wire.run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "address", self.mac)
        wire.run("ip", "link", "set", "eth0", "netns", f"/proc/{os.getpid()}/fd/{self.descriptor}")
        wire.run("ip", "link", "set", port, "master", "wire0", "up")
        self.run("ip", "link", "set", "lo", "up")
        for version in WIRES:
            self.run("ip", "addr", "add", self.own(version, name), "dev", "eth0", *["nodad"] * (version == 6))
        self.run("ip", "link", "set", "eth0", "up")

    def own(self, version: int, name: str) -> str:
        wire = WIRES[version]
        return f"{getattr(wire, name)}/{wire.bits}"

    @property
    def path(self) -> Path:
        return Path(f"/proc/{os.getpid()}/fd/{self.descriptor}")

    @property
    def place(self) -> Place:
        return Place(self.path, "eth0", self.mac)


class Host(Machine):
    """A machine with a pynet."""

    def __init__(self, wire: Sandbox, name: str, number: int, firewall: str, directory: Path) -> None:
        super().__init__(wire, name, number)
        for program in FIREWALL_PACKAGES:
            # As dockerd leaves it.
            self.run(program, "-P", "FORWARD", "DROP")
        directory.mkdir()
        self.plugin = Serving("pynet", directory, f"--firewall={firewall}")
        self.networks: set[str] = set()
        self.start()

    def start(self) -> None:
        # By this thread: the plugin ends with the thread that started it.
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        enter(self.descriptor)
        try:
            self.plugin.start()
        finally:
            enter(home)
            os.close(home)

    def ok(self, method: str, **request: Any) -> dict[str, Any]:
        status, answer = self.plugin.ask(f"NetworkDriver.{method}", request)
        assert status == 200, answer
        return answer


class NamespaceStage:
    """The stage of one kind and firewall backend."""

    driver = "pynet"
    offers = frozenset({"anti_spoof", "rates", "publish_from", "comes"})

    def __init__(self, kind: Kind, firewall: str, directory: Path) -> None:
        self.kind: Kind = kind
        self.wire = Sandbox()
        self.wire.run("ip", "link", "add", "wire0", "type", "bridge")
        self.wire.run("ip", "link", "set", "wire0", "up")
        self.near = Host(self.wire, "host", 1, firewall, directory / "host")
        self._outside = Machine(self.wire, "outside", 2)
        self.peer = Host(self.wire, "peer", 3, firewall, directory / "peer") if kind == "overlay" else None
        self.host, self.outside = self.near.place, self._outside.place
        self._sandboxes: dict[str, Sandbox] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._lead()

    def _lead(self) -> None:
        """Routes and neighbours are those that the cases' addresses need."""
        for version, wire in WIRES.items():
            for address in (wire.ghost, wire.member, wire.stranger):
                self.near.run("ip", "neigh", "add", address, "lladdr", self._outside.mac, "dev", "eth0")
            route = ["ip", f"-{version}", "route", "add"]
            self.near.run(*route, wire.narrow_net, "via", wire.outside, "mtu", "lock", str(NARROW_MTU))
            self._outside.run(*route, "default", "via", wire.host)
            self._outside.run("ip", "addr", "add", wire.narrow, "dev", "eth0", *["nodad"] * (version == 6))

    def endpoint(self, name: str) -> Endpoint:
        if name not in self._endpoints:
            self._endpoints[name] = self._attach(name)
        return self._endpoints[name]

    def _attach(self, name: str) -> Endpoint:
        plan, number = ENDPOINTS[name], ADDRESSES[name]
        host = self.peer if plan.far else self.near
        if host is None:
            raise NotOffered("there is no other host")
        self._create_network(host, plan.network)
        subnet = NUMBERS[plan.network]
        addresses = {4: f"10.{subnet}.0.{number}", 6: f"fd{subnet}::{number}"}
        mac = f"02:42:0a:{subnet:02x}:00:{number:02x}"
        ids = {"NetworkID": ident(plan.network), "EndpointID": ident(name)}
        interface = {"Address": f"{addresses[4]}/24", "AddressIPv6": f"{addresses[6]}/64", "MacAddress": mac}
        host.ok("CreateEndpoint", **ids, Interface=interface, Options={})
        # Before anybody hears of it, as an engine does.
        sandbox = self._sandboxes[name] = Sandbox()
        answer = host.ok("Join", **ids, SandboxKey="/var/run/docker/netns/0123456789ab", Options={})
        move_in(host, sandbox, answer["InterfaceName"]["SrcName"], addresses)
        gateways = {4: answer.get("Gateway", ""), 6: answer.get("GatewayIPv6", "")}
        for version, gateway in gateways.items():
            if gateway and not NETWORKS[plan.network].internal:
                sandbox.run("ip", f"-{version}", "route", "add", "default", "via", gateway)
        if plan.ports:
            ports = [binding for port in plan.ports for binding in bindings(port)]
            host.ok("ProgramExternalConnectivity", **ids, Options={"com.docker.network.portmap": ports})
        place = Place(Path(f"/proc/{os.getpid()}/fd/{sandbox.descriptor}"), "eth0", mac)
        return Endpoint(name, plan.network, place, addresses, gateways)

    def _create_network(self, host: Host, name: str) -> None:
        if name in host.networks:
            return
        plan, number = NETWORKS[name], NUMBERS[name]
        generic = dict(plan.options)
        if self.kind == "overlay":
            wire = WIRES[4]
            generic |= {"type": "overlay", "name": name, "peers": f"{wire.host},{wire.peer},{wire.member}"}
        data4 = {"AddressSpace": "Local", "Pool": f"10.{number}.0.0/24", "Gateway": f"10.{number}.0.1/24"}
        data6 = {"AddressSpace": "Local", "Pool": f"fd{number}::/64", "Gateway": f"fd{number}::1/64"}
        options: dict[str, Any] = {"com.docker.network.generic": generic}
        if plan.internal:
            options["com.docker.network.internal"] = True
        host.ok("CreateNetwork", NetworkID=ident(name), Options=options, IPv4Data=[data4], IPv6Data=[data6])
        host.networks.add(name)

    def leave(self, name: str) -> None:
        if self._endpoints.pop(name, None) is None:
            return
        plan = ENDPOINTS[name]
        host = self.peer if plan.far else self.near
        assert host is not None
        ids = {"NetworkID": ident(plan.network), "EndpointID": ident(name)}
        host.ok("RevokeExternalConnectivity", **ids)
        host.ok("Leave", **ids)
        self._sandboxes.pop(name).close()
        host.ok("DeleteEndpoint", **ids)

    def close(self) -> None:
        for host in filter(None, (self.near, self.peer)):
            with suppress(ProcessLookupError):
                host.plugin.kill()
        for sandbox in (*self._sandboxes.values(), *filter(None, (self.near, self._outside, self.peer, self.wire))):
            sandbox.close()


def ident(name: str) -> str:
    """An ID as an engine makes them, always the same."""
    return hashlib.sha256(name.encode()).hexdigest()


def bindings(port: Port) -> Iterator[dict[str, Any]]:
    for offset in range(port.count):
        host = port.host + offset
        yield {
            "Proto": PROTOCOLS[port.protocol],
            "Port": port.container + offset,
            "HostIP": port.host_ip,
            "HostPort": host,
            "HostPortEnd": host,
        }


def move_in(host: Host, sandbox: Sandbox, link: str, addresses: dict[int, str]) -> None:
    """The link is eth0 of the sandbox, with the addresses; in the order of dockerd's."""
    sandbox.run("ip", "link", "set", "lo", "up")
    host.run("ip", "link", "set", link, "netns", f"/proc/{os.getpid()}/fd/{sandbox.descriptor}")
    sandbox.run("ip", "link", "set", link, "name", "eth0")
    sandbox.run("ip", "addr", "add", f"{addresses[4]}/24", "dev", "eth0")
    sandbox.run("ip", "addr", "add", f"{addresses[6]}/64", "dev", "eth0", "nodad")
    sandbox.run("ip", "link", "set", "eth0", "up")
