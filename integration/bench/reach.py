"""How soon an endpoint that was added to a network answers the containers of other hosts."""

import json
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from integration.lab.deadline import wait_for
from integration.lab.etcd import EtcdCluster
from integration.lab.host import Host

# etcd takes 128 operations in one transaction.
AT_ONCE = 100
ELSEWHERE = ("0" * 32, "10.90.0.250")
FIRST = ip_address("10.61.128.0")


class Reach:
    """Endpoints come on one host; each other one has a container by the name of each network that asks for them."""

    def __init__(self, host: Host, others: Sequence[Host]) -> None:
        self._host, self._others = host, others
        host.idle("new", "--network", "none")
        host.docker("network", "disconnect", "none", "new")

    def line(self, title: str, network: str, prefix: str, count: int) -> str:
        """As many endpoints came and went; return their line of the table."""
        took = self.times(network, prefix, count)
        values = (statistics.median(took), statistics.quantiles(took, n=20)[-1], max(took))
        return f"| {title} | " + " | ".join(f"{value * 1000:.0f}" for value in values) + " |"

    def times(self, network: str, prefix: str, count: int) -> list[float]:
        """As many endpoints came and went; return the seconds until each was reached from everywhere."""
        inside = {other: other.network_of(network) for other in self._others}
        # What a ping takes to an address that has long been there is no part of it.
        known = statistics.median(self._ping(inside, self._host.address_of(network, network)) for _ in range(9))
        took = []
        for number in range(count):
            # Another one each time, which nobody has asked for before.
            address = f"{prefix}.{100 + number % 150}"
            self._host.docker("network", "connect", "--ip", address, network, "new")
            took.append(max(0.0, self._ping(inside, address) - known))
            self._host.docker("network", "disconnect", network, "new")
        return took

    def fill(self, etcd: EtcdCluster, network: str, count: int) -> None:
        """So many endpoints of a host that is not there stand in etcd, and all hosts have them in their kernels."""
        for first in range(0, count, AT_ONCE):
            etcd.put(dict(_elsewhere(number) for number in range(first, min(first + AT_ONCE, count))))
        for host in (self._host, *self._others):
            device = "pnx" + host.docker("network", "inspect", "--format", "{{.Id}}", network)[:8]
            words = ("bridge", "fdb", "show", "dev", device)

            def has_all(host: Host = host, words: Sequence[str] = words) -> bool:
                return host.run(*words).count(f" dst {ELSEWHERE[1]} ") == count

            wait_for(f"{host.name} has them all", has_all, 300)

    def _ping(self, inside: dict[Host, tuple[str, ...]], address: str) -> float:
        """All others got an answer; return how many seconds that took, with the start of the programs."""

        def ask(other: Host) -> None:
            other.run(*inside[other], "ping", "-c1", "-i", "0.02", "-w", "10", address)

        before = time.monotonic()
        with ThreadPoolExecutor(len(inside)) as pool:
            list(pool.map(ask, inside))
        return time.monotonic() - before


def _elsewhere(number: int) -> tuple[str, str]:
    """Return key and value of an endpoint as they stand in etcd; docs/overlay.md has the table."""
    host, vtep = ELSEWHERE
    mac = "02:43:" + number.to_bytes(4, "big").hex(":")
    value = {"host": host, "vtep": vtep, "mac": mac, "address4": f"{FIRST + number}/16", "address6": None, "schema": 1}
    return f"/pynet/v1/at/bench/endpoint/{number:064x}", json.dumps(value)
