"""Measure the services by themselves, in turns: from their start to a socket that listens and to their first answer.

And their memory, PSS of arbiter and worker, when nothing has been asked of them but whether they are there.
"""

import argparse
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from integration.bench.laboratory import laboratory
from integration.bench.samples import Samples, Unit
from integration.lab import machine, plugin
from integration.lab.daemon import Daemon
from integration.lab.engine import ENGINES
from integration.lab.host import Drivers
from integration.lab.namespace import children

SERVICES = ("pynet", "pyvol")
ACTIVATE = b"POST /Plugin.Activate HTTP/1.1\r\nHost: plugin\r\nContent-Length: 0\r\n\r\n"


def main() -> None:
    """Everything was measured and printed, and nothing of it is left."""
    parser = argparse.ArgumentParser(prog="scripts/bench start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="how often each service is started")
    chosen = parser.parse_args()
    seconds, memory = Samples(SERVICES, ""), Samples(SERVICES, "", Unit("MiB", 1 / 2**20))
    with laboratory(ENGINES["docker-20.10"], Drivers()) as lab, lab.own_host() as host:
        for number in range(chosen.rounds + 1):
            for name in SERVICES:
                service = plugin.daemon(name, host.machine, {}, confine=False)
                listens, answers = started(service)
                time.sleep(1)
                taken = sum(map(machine.pss, [service.pid, *children(service.pid)]))
                service.stop()
                # The first start makes the state, and finds nothing in the host's cache.
                if number:
                    seconds.note("until it listens", name, listens)
                    seconds.note("until its first answer", name, answers)
                    memory.note("memory at rest", name, taken)
        print(f"{seconds.table()}\n\n{memory.table()}")


def started(service: Daemon) -> tuple[float, float]:
    """The service runs; return the seconds until it listened and until it answered."""
    path = str(service.machine.path(f"{plugin.SOCKETS}/{service.name}.sock"))
    with ThreadPoolExecutor(1) as starter, socket.socket(socket.AF_UNIX) as early:
        began = time.perf_counter()
        starting = starter.submit(service.start)
        while early.connect_ex(path):
            time.sleep(0.001)
        listens = time.perf_counter() - began
        early.sendall(ACTIVATE)
        assert early.recv(64).startswith(b"HTTP/1.1 200")
        answers = time.perf_counter() - began
        starting.result()
    return listens, answers


if __name__ == "__main__":
    main()
