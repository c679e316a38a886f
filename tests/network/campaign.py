"""A pynet that is killed again and again while several engines at once ask it for everything.

Each engine is a thread with networks of its own; they quarrel about host ports. A request that a kill cut short is
repeated, as dockerd does, or forgotten, as by a dockerd that died too.
"""

import contextlib
import random
import subprocess
import threading
import time

from tests.network.engine import port
from tests.network.sandboxes import Sandbox
from tests.serving import Serving

NETWORKS_EACH, ENDPOINTS_EACH = 2, 4
SINGLE_PORTS = range(20000, 20006)
RUNS = ((30000, 100), (30050, 100), (31000, 10))


class Container:
    """An endpoint with a real network namespace for its link."""

    def __init__(self, network_id: str, endpoint_id: str, address: str) -> None:
        self.ids = {"NetworkID": network_id, "EndpointID": endpoint_id}
        self.address = address
        self.sandbox: Sandbox | None = None

    def take(self, link: str) -> None:
        self.sandbox = Sandbox()
        # A link that a crash took back is not there to be moved.
        with contextlib.suppress(subprocess.CalledProcessError):
            self.sandbox.take(link)

    def die(self) -> None:
        if self.sandbox is not None:
            self.sandbox.close()
            self.sandbox = None


class Engine(threading.Thread):
    """Sends requests whenever the gate is open, until it is told to stop."""

    def __init__(self, number: int, serving: Serving, seed: str) -> None:
        super().__init__(daemon=True)
        self.number, self.serving, self.random = number, serving, random.Random(seed)
        self.gate, self.parked, self.stopping = threading.Event(), threading.Event(), False
        self.answers: dict[int, int] = {}
        self.bugs: list[str] = []
        self._networks: set[str] = set()
        self._containers: list[Container] = []
        self._made = 0

    def run(self) -> None:
        try:
            while not self.stopping:
                self._wait()
                self._step()
        except Exception as exc:  # noqa: BLE001 - told by the test
            self.bugs.append(repr(exc))
        finally:
            for container in self._containers:
                container.die()
            self.parked.set()

    def park(self) -> None:
        self.gate.clear()
        assert self.parked.wait(60), f"engine {self.number} hangs"

    def go_on(self) -> None:
        self.parked.clear()
        self.gate.set()

    def _wait(self) -> None:
        if not self.gate.is_set():
            self.parked.set()
            self.gate.wait()

    def _step(self) -> None:
        slot = self.random.randrange(NETWORKS_EACH)
        network_id = f"{self.number:04x}{slot:04x}" * 8
        mine = [container for container in self._containers if container.ids["NetworkID"] == network_id]
        if network_id not in self._networks:
            self._create_network(network_id, slot)
        elif len(mine) < ENDPOINTS_EACH and self.random.random() < 0.6:
            self._start(network_id, slot)
        elif mine and self.random.random() < 0.5:
            self._change(self.random.choice(mine))
        elif mine:
            self._end(self.random.choice(mine))
        elif self.random.random() < 0.3:
            self._call("DeleteNetwork", NetworkID=network_id)
            self._networks.discard(network_id)

    def _create_network(self, network_id: str, slot: int) -> None:
        number = self.number * NETWORKS_EACH + slot
        data = {"AddressSpace": "Local", "Pool": f"10.100.{number}.0/24", "Gateway": f"10.100.{number}.1/24"}
        data6 = {"AddressSpace": "Local", "Pool": f"fd00:{number}::/64", "Gateway": f"fd00:{number}::1/64"}
        options = {"com.docker.network.bridge.enable_icc": "true" if slot else "false"}
        answer = self._call(
            "CreateNetwork",
            NetworkID=network_id,
            Options={"com.docker.network.generic": options},
            IPv4Data=[data],
            IPv6Data=[data6] if slot else [],
        )
        if answer is not None:
            self._networks.add(network_id)

    def _start(self, network_id: str, slot: int) -> None:
        self._made += 1
        number, host = self.number * NETWORKS_EACH + slot, self.random.randrange(2, 9)
        container = Container(network_id, f"{self.number:02x}{self._made:06x}" * 8, f"10.100.{number}.{host}")
        # The engine's own IPAM gives an address only once.
        if any(other.address == container.address for other in self._containers):
            return
        interface = {"Address": f"{container.address}/24", "AddressIPv6": f"fd00:{number}::{host}/64" if slot else ""}
        self._containers.append(container)
        if not self._call("CreateEndpoint", **container.ids, Interface=interface, Options={}):
            self._end(container)
            return
        answer = self._call("Join", **container.ids, SandboxKey="/sandboxes/of/a/test", Options={})
        if not answer:
            self._end(container)
            return
        container.take(answer["InterfaceName"]["SrcName"])
        self._publish(container)

    def _change(self, container: Container) -> None:
        if self.random.random() < 0.5:
            self._call("RevokeExternalConnectivity", **container.ids)
        self._publish(container)

    def _publish(self, container: Container) -> None:
        choice = self.random.randrange(4)
        protocol = self.random.choice([6, 17])
        ports = []
        if choice == 0:
            ports = [port(80, self.random.choice(SINGLE_PORTS), proto=protocol)]
        elif choice == 1:
            first, count = self.random.choice(RUNS)
            shift = self.random.choice([0, 1000])
            ports = [port(number - shift, number, proto=protocol) for number in range(first, first + count)]
        elif choice == 2:
            ports = [port(number, proto=protocol) for number in (80, 81)]
        self._call("ProgramExternalConnectivity", **container.ids, Options={"com.docker.network.portmap": ports})

    def _end(self, container: Container) -> None:
        """Told to the plugin, before or after the namespace ended, or never."""
        ending = self.random.choice(["told", "died before", "never told"])
        if ending != "told":
            container.die()
        if ending != "never told":
            for method in ("RevokeExternalConnectivity", "Leave", "DeleteEndpoint"):
                self._call(method, **container.ids)
        container.die()
        self._containers.remove(container)

    def _call(self, method: str, **body: object) -> dict[str, object] | None:
        """Return the answer; None: it was an error, or never came and was not asked for again."""
        while True:
            try:
                status, answer = self.serving.ask(f"NetworkDriver.{method}", body)
            except OSError:
                forgotten = self.random.random() < 0.3
                self.parked.set()
                while not self.gate.wait(0.05) and not self.stopping:
                    pass
                # The gate may still be open: the kill came a moment ago.
                time.sleep(0.02)
                if forgotten or self.stopping:
                    return None
                continue
            self.answers[status] = self.answers.get(status, 0) + 1
            if status != 200:
                if "internal error" in answer["Err"] or status not in (400, 500):
                    self.bugs.append(f"{method}: {status} {answer}")
                return None
            return answer
