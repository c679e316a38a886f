"""Measure what the last of many networks and endpoints costs against the first, asked over pynet's socket.

And its memory with all of them, and how long it takes to start with them, which ends with a whole check of the kernel.
"""

import argparse
import itertools
import time
from collections.abc import Iterable
from typing import Any

from integration.bench.laboratory import laboratory
from integration.bench.samples import Samples
from integration.lab import machine, plugin, unixhttp
from integration.lab.daemon import Daemon
from integration.lab.engine import ENGINES
from integration.lab.host import Drivers
from integration.lab.namespace import children

FIRST, LAST = "first", "last"
PATIENCE_S = 120.0
GENERIC, PORTS = "com.docker.network.generic", "com.docker.network.portmap"


def main() -> None:
    """Everything was measured and printed, and nothing of it is left."""
    parser = argparse.ArgumentParser(prog="scripts/bench growth", description=__doc__)
    parser.add_argument("--networks", type=int, default=1000, help="how many networks")
    parser.add_argument("--endpoints", type=int, default=10, help="how many endpoints each of them has")
    parser.add_argument("--slice", type=int, default=20, help="how many networks are the first, and the last")
    parser.add_argument("--firewall", default="nftables", choices=("nftables", "iptables"))
    chosen = parser.parse_args()
    with laboratory(ENGINES["docker-20.10"], Drivers()) as lab, lab.own_host() as host:
        service = plugin.daemon("pynet", host.machine, {"PYNET_FIREWALL": chosen.firewall}, confine=False)
        service.start()
        growth = Growth(service, chosen.endpoints)
        print(f"{chosen.networks} networks of {chosen.endpoints} endpoints, {chosen.firewall}\n")
        print(f"with none of them {growth.memory():.0f} MiB", flush=True)
        first, last = range(chosen.slice), range(chosen.networks - chosen.slice, chosen.networks)
        growth.grow(first, FIRST)
        growth.shrink(first, FIRST)
        growth.grow(range(last.start), "")
        growth.grow(last, LAST)
        print(f"with all of them {growth.memory():.0f} MiB", flush=True)
        service.stop()
        began = time.perf_counter()
        service.start()
        print(
            f"started with all of them in {time.perf_counter() - began:.1f} s, {growth.memory():.0f} MiB\n", flush=True
        )
        growth.shrink(last, LAST)
        service.stop()
    print(growth.samples.table())


class Growth:
    """Networks with endpoints, by their numbers. What is asked for is among the samples, unless it is of no variant."""

    def __init__(self, service: Daemon, endpoints: int) -> None:
        self.samples = Samples((FIRST, LAST), FIRST)
        self._endpoints = endpoints
        self._service = service

    def memory(self) -> float:
        """PSS of arbiter and worker, in MiB."""
        return sum(map(machine.pss, [self._service.pid, *children(self._service.pid)])) / 2**20

    def grow(self, numbers: Iterable[int], variant: str) -> None:
        """They are there; the first endpoint of each has a published port."""
        for number in numbers:
            subnet = f"10.{number // 250}.{number % 250}"
            data = [{"AddressSpace": "Local", "Pool": f"{subnet}.0/24", "Gateway": f"{subnet}.1/24"}]
            self._ask(variant, "CreateNetwork", _of(number), IPv4Data=data, IPv6Data=[], Options={GENERIC: {}})
            for place in range(self._endpoints):
                of = _of(number, place)
                interface = {"Address": f"{subnet}.{place + 2}/24", "AddressIPv6": "", "MacAddress": ""}
                self._ask(variant, "CreateEndpoint", of, Interface=interface, Options={})
                self._ask(variant, "Join", of, SandboxKey=f"/run/docker/netns/{of['EndpointID'][:12]}", Options={})
                if place == 0:
                    port = {"Proto": 6, "Port": 80, "HostPort": 10000 + number, "HostPortEnd": 10000 + number}
                    self._ask(variant, "ProgramExternalConnectivity", of, Options={PORTS: [port]})

    def shrink(self, numbers: Iterable[int], variant: str) -> None:
        """They are gone."""
        for number, place in itertools.product(numbers, range(self._endpoints)):
            of = _of(number, place)
            if place == 0:
                self._ask(variant, "RevokeExternalConnectivity", of)
            self._ask(variant, "Leave", of)
            self._ask(variant, "DeleteEndpoint", of)
            if place == self._endpoints - 1:
                self._ask(variant, "DeleteNetwork", _of(number))

    def _ask(self, variant: str, method: str, of: dict[str, str], **request: Any) -> None:
        path = self._service.machine.path(f"{plugin.SOCKETS}/pynet.sock")
        began = time.perf_counter()
        answer = unixhttp.ask(path, f"/NetworkDriver.{method}", {**of, **request}, PATIENCE_S)
        took = time.perf_counter() - began
        assert not answer.get("Err"), (method, of, answer)
        if variant:
            self.samples.note(method, variant, took)


def _of(number: int, place: int | None = None) -> dict[str, str]:
    network = {"NetworkID": f"{number:08x}" * 8}
    return network if place is None else {**network, "EndpointID": f"{number * 256 + place + 1:08x}" * 8}


if __name__ == "__main__":
    main()
