"""One network driver on a host of its own, with what is measured of it."""

import http.client
import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from integration.lab import image, unixhttp
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

CONNECTS = str(Path(__file__).with_name("connects.py"))
SERVICE = 8080
FIRST = 20000
IDLE = (image.NAME, "sleep", "1000000")
NETWORK = "bench"
_SPENT = re.compile(r'^pynet_request_seconds_sum\{method="[^"]*"\} (\S+)$', re.MULTILINE)
# The plugin's own view of a network and an endpoint that no engine knows.
UNKNOWN_NETWORK, ENDPOINT = "be" * 32, "ed" * 32


def timed(host: Host, *argv: str) -> float:
    """The command has succeeded; return how many seconds that took."""
    started = time.perf_counter()
    host.docker(*argv, timeout_s=600)
    return time.perf_counter() - started


class Subject:
    """A host with a network "bench" of the driver."""

    def __init__(self, name: str, host: Host) -> None:
        self.name, self.host = name, host
        self.is_ours = host.drivers.network == "pynet"
        self._filled = False
        host.start()
        host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", NETWORK)

    def run_and_remove(self, network: str, *options: str) -> tuple[float, float, float]:
        """Return the seconds of `docker run -d`, those of them within pynet, and those of `docker rm -f`."""
        before = self._within()
        started = timed(self.host, "run", "-d", "--name", "one", "--network", network, *options, *IDLE)
        within = self._within() - before
        return started, within, timed(self.host, "rm", "-f", "one")

    def _within(self) -> float:
        """Return how long pynet has been answering requests of the engine."""
        if not self.is_ours:
            return 0
        told = unixhttp.text(self.host.machine.path("/run/docker/plugins/pynet.sock"), "/metrics")
        return sum(map(float, _SPENT.findall(told)))

    def create_and_remove_network(self) -> tuple[float, float]:
        """Return the seconds of `docker network create` and of `docker network rm`."""
        options = ("-d", self.host.drivers.network, "--subnet", "10.62.0.0/24")
        created = timed(self.host, "network", "create", *options, "another")
        return created, timed(self.host, "network", "rm", "another")

    @contextmanager
    def idle_container(self) -> Iterator[None]:
        """Inside the block a container runs on the network, and another without one."""
        self.host.idle("idle", "--network", "none")
        self.host.docker("network", "disconnect", "none", "idle")
        yield
        self.host.docker("rm", "-f", "idle")

    def attach_and_detach(self) -> tuple[float, float]:
        """Return the seconds of `docker network connect` and `disconnect` of a running container."""
        attached = timed(self.host, "network", "connect", NETWORK, "idle")
        return attached, timed(self.host, "network", "disconnect", NETWORK, "idle")

    def fill(self, count: int) -> float:
        """`count` other ports are published, single ones, instead of those before; return in how many seconds.

        Ours all lead to one port of a container, so that no two make a run. Docker's driver knows no runs.
        """
        if not self.is_ours:
            self.empty()
            self._filled = True
            return timed(self.host, "run", "-d", "--name", "many", "--network", NETWORK, *run_of(count), *IDLE)
        if not self._filled:
            self._filled = True
            data = {"Pool": "10.63.0.0/24", "Gateway": "10.63.0.1/24", "AddressSpace": "bench"}
            self._call("CreateNetwork", IPv4Data=[data])
            self._call("CreateEndpoint", EndpointID=ENDPOINT, Interface={"Address": "10.63.0.2/24"})
        return self._publish(ENDPOINT, [_binding(80, port) for port in range(FIRST, FIRST + count)])

    def empty(self) -> float:
        """Nothing of `fill` is left; return in how many seconds."""
        if not self._filled:
            return 0
        self._filled = False
        if not self.is_ours:
            return timed(self.host, "rm", "-f", "many")
        return self._call("DeleteEndpoint", EndpointID=ENDPOINT) + self._call("DeleteNetwork")

    def publish_once_more(self, repeats: int) -> list[float]:
        """Return the seconds of ProgramExternalConnectivity of one port, asked on the plugin's socket."""
        other = "ee" * 32
        self._call("CreateEndpoint", EndpointID=other, Interface={"Address": "10.63.0.3/24"})
        seconds = []
        for _ in range(repeats):
            seconds.append(self._publish(other, [_binding(80, 7000)]))
            self._call("RevokeExternalConnectivity", EndpointID=other)
        self._call("DeleteEndpoint", EndpointID=other)
        return seconds

    @contextmanager
    def service(self) -> Iterator[None]:
        """Inside the block a container answers on SERVICE, which was published last."""
        self.host.idle("web", "--network", NETWORK, "-p", f"{SERVICE}:80")
        with self.host.answering("tcp", 80, self.host.network_of("web")):
            yield
        self.host.docker("rm", "-f", "web")

    def connects(self, outside: WireHost, count: int) -> list[float]:
        """Return the seconds that connect() took, for connections from another host."""
        printed = outside.run(sys.executable, "-IS", CONNECTS, self.host.address, str(SERVICE), str(count))
        return [float(line) for line in printed.split()]

    def _publish(self, endpoint: str, bindings: list[dict[str, Any]]) -> float:
        options = {"com.docker.network.portmap": bindings}
        return self._call("ProgramExternalConnectivity", EndpointID=endpoint, Options=options)

    def _call(self, method: str, **body: Any) -> float:
        """The plugin has answered, and well; return in how many seconds."""
        text = json.dumps({"NetworkID": UNKNOWN_NETWORK, **body})
        connection = http.client.HTTPConnection("bench", timeout=120)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(120)
        connection.sock.connect(str(self.host.machine.path("/run/docker/plugins/pynet.sock")))
        started = time.perf_counter()
        connection.request("POST", f"/NetworkDriver.{method}", text)
        answer = connection.getresponse()
        said = answer.read()
        seconds = time.perf_counter() - started
        connection.close()
        assert answer.status == http.client.OK, said
        return seconds


def run_of(count: int) -> tuple[str, str]:
    """Return the options of `docker run` that publish `count` ports."""
    last = FIRST + count - 1
    return "-p", f"{FIRST}-{last}:{FIRST}-{last}"


def _binding(container: int, host: int) -> dict[str, Any]:
    return {"Proto": 6, "IP": "", "Port": container, "HostIP": "", "HostPort": host, "HostPortEnd": host}
