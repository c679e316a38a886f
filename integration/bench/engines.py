"""Measure how long containers take to start on pyrun and on dockerd 20.10, 26.1 and 28.5, in turns; print a table.

By the Engine API, without the docker CLI: create and start of a container, and its removal. Then the memory, PSS,
of the engine and all its shims, beside that of the engine alone.
"""

import argparse
import contextlib
import http.client
import json
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from integration.bench.laboratory import laboratory
from integration.bench.samples import Samples
from integration.lab import image, machine
from integration.lab.engine import ENGINES
from integration.lab.host import Drivers, Host

REFERENCE = "docker-28.5"
NETWORK = "bench"
BESIDE = 10  # so many containers run when memory is looked at
PUBLISHED: dict[str, Any] = {"Binds": ["bench:/data"], "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}
KINDS: dict[str, dict[str, Any]] = {
    "no network": {"NetworkMode": "none"},
    "pynet": {"NetworkMode": NETWORK},
    "pynet, pyvol, 1 port": {"NetworkMode": NETWORK, **PUBLISHED},
}
SHIMS = ("containerd", "conmon", "dockerd", "docker-proxy", "pyrun")


def main() -> None:
    """Everything was measured and printed, and nothing of it is left."""
    parser = argparse.ArgumentParser(prog="scripts/bench engines", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="how often each thing is measured")
    chosen = parser.parse_args()
    samples = Samples(tuple(ENGINES), REFERENCE)
    with laboratory(ENGINES[REFERENCE], Drivers()) as lab, ExitStack() as stack:
        hosts: dict[str, Host] = {}
        for number, (name, kind) in enumerate(ENGINES.items(), 1):
            hosts[name] = Host(f"b{number}", lab.root / f"b{number}", lab.wire, kind, Drivers())
            stack.callback(hosts[name].close)
            hosts[name].start()
            hosts[name].docker("network", "create", "-d", "pynet", "--subnet", "10.61.0.0/24", NETWORK)
            hosts[name].docker("volume", "create", "-d", "pyvol", "-o", "size=64M", "bench")
        for what, settings in KINDS.items():
            for _ in range(chosen.rounds):
                for name, host in hosts.items():
                    started, removed = run_and_remove(host, settings)
                    samples.note(f"create + start, {what}", name, started)
                    samples.note(f"remove, {what}", name, removed)
        print(samples.table())
        print("\n| memory (PSS), MiB | engine alone | each container adds |\n|---|---|---|")
        for name, host in hosts.items():
            alone, more = memory(host)
            print(f"| {name} | {alone:.0f} | {more:.1f} |")


def run_and_remove(host: Host, settings: dict[str, Any]) -> tuple[float, float]:
    """Return the seconds of create and start, and of the removal."""
    began = time.perf_counter()
    body = {"Image": image.NAME, "Cmd": ["sleep", "1000000"], "HostConfig": settings, "ExposedPorts": {"80/tcp": {}}}
    key = ask(host, "POST", "/containers/create", body)["Id"]
    ask(host, "POST", f"/containers/{key}/start")
    started = time.perf_counter()
    ask(host, "DELETE", f"/containers/{key}?force=1")
    return started - began, time.perf_counter() - started


def ask(host: Host, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what the engine answers, which is well."""
    connection = http.client.HTTPConnection("engine", timeout=120)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(host.machine.path("/run/docker.sock")))
    connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    assert answer.status < http.client.BAD_REQUEST, told
    found: dict[str, Any] = json.loads(told) if told.strip() else {}
    return found


def memory(host: Host) -> tuple[float, float]:
    """Return the MiB of the engine without containers, and what each of some adds, its own processes apart."""
    alone = memory_of_engine(host)
    for number in range(BESIDE):
        host.idle(f"m{number}", "--network", "none")
    more = (memory_of_engine(host) - alone) / BESIDE
    host.remove_all()
    return alone, more


def memory_of_engine(host: Host) -> float:
    """Return the MiB of all programs of the engine, what they share divided among them."""
    total, own = 0, Path(f"/proc/{host.machine.pid}/ns/pid").readlink()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # Processes of containers have a namespace of their own.
            if (entry / "ns/pid").readlink() == own and is_engines(entry):
                total += machine.pss(int(entry.name))
    return total / 2**20


def is_engines(entry: Path) -> bool:
    """Tell whether the process is the engine, or one of its own, and not a plugin."""
    arguments = (entry / "cmdline").read_text().split("\0")
    return any(Path(word).name.startswith(SHIMS) for word in arguments[:2])


if __name__ == "__main__":
    main()
