"""Churn for SOAK_MINUTES: networks, endpoints, published ports, volumes, by the sockets of a real pynet and pyvol.

Both run in namespaces of their own; no engine. Prints how memory, descriptors, threads, rows, rules and latency went,
and ends with 1 unless all were flat over the second half and nothing was left at the end.
"""

from __future__ import annotations

import os
import random
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from tests.network.campaign import Engine
from tests.network.conftest import network_namespace
from tests.network.kernel_text import found, is_as_recorded
from tests.reference.volumes import SIZES, Volumes
from tests.soak.measure import Timed, grown, is_flat, latencies, measured
from tests.volume.conftest import mounts_apart

MINUTES = float(os.environ.get("SOAK_MINUTES", "60"))
SAMPLES = 120
ENGINES, USERS = 2, 2
# Somebody who waits never: what is measured then is the queue.
PAUSE_S = 0.02


class Calm(Engine):
    """An engine that is content with a few requests a second."""

    def _step(self) -> None:
        super()._step()
        time.sleep(PAUSE_S)


class User(threading.Thread):
    """Makes volumes, has them mounted, writes into them, looks whether it is still there, and removes them."""

    def __init__(self, number: int, pyvol: Timed, seed: str) -> None:
        super().__init__(daemon=True)
        self._pyvol, self._chance = pyvol, random.Random(f"{seed} user {number}")
        self._names = [f"u{number}-{which}" for which in range(4)]
        self.model, self.stopping, self.bugs = Volumes(pyvol.state_dir), False, list[str]()

    def run(self) -> None:
        try:
            while not self.stopping:
                self._step(self._chance.choice(self._names))
                time.sleep(PAUSE_S)
            self.model.end(self._pyvol.ask)
        except Exception as exc:  # noqa: BLE001 - told at the end
            self.bugs.append(repr(exc))

    def _step(self, name: str) -> None:
        model, ask = self.model, self._pyvol.ask
        if name not in model.volumes:
            model.create(name, self._chance.choice(SIZES)).take(ask)
        elif name not in model.is_mounted():
            (model.mount(name, "c") if self._chance.random() < 0.8 else model.remove(name)).take(ask)
        elif self._chance.random() < 0.5:
            model.holds(name)
            model.write(name, secrets.token_hex(self._chance.randrange(1, 50_000)))
        else:
            model.get(name).take(ask)
            model.unmount(name, "c").take(ask)


def main() -> int:
    """Return the exit code."""
    seed = os.environ.get("CHAOS_SEED") or secrets.token_hex(4)
    print(f"SOAK_MINUTES={MINUTES:g} CHAOS_SEED={seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory, network_namespace(), mounts_apart(Path(directory)):
        empty = found()
        pynet = Timed("pynet", Path(directory) / "pynet", "--firewall", "nftables")
        pyvol = Timed("pyvol", Path(directory) / "pyvol")
        for plugin in (pynet, pyvol):
            plugin.socket.parent.mkdir()
            plugin.start()
        try:
            faults = soak(pynet, pyvol, seed)
            is_as_recorded(pynet, "nftables", "at the end")
            faults += [f"left at the end: {line}" for line in sorted(set(found()) - set(empty))]
        finally:
            for plugin in (pynet, pyvol):
                plugin.stop()
        for plugin in (pynet, pyvol):
            faults += ["a traceback in the log"] * ("Traceback" in plugin.log())
    print("\n".join(f"FAULT: {fault}" for fault in faults) or "all was flat, nothing was left", flush=True)
    return 1 if faults else 0


def soak(pynet: Timed, pyvol: Timed, seed: str) -> list[str]:
    """Return what was wrong."""
    engines = [Calm(number, pynet, f"{seed} {number}") for number in range(ENGINES)]
    users = [User(number, pyvol, seed) for number in range(USERS)]
    began, samples = time.monotonic(), list[tuple[float, dict[str, float]]]()
    for engine in engines:
        engine.start()
        engine.go_on()
    for user in users:
        user.start()
    ends = began + 60 * MINUTES
    while time.monotonic() < ends and not any(each.bugs for each in (*engines, *users)):
        time.sleep(60 * MINUTES / SAMPLES)
        samples.append((time.monotonic(), measured(pynet) | measured(pyvol)))
    for each in (*engines, *users):
        each.stopping = True
    for each in (*engines, *users):
        each.join(120)
    for number in range(ENGINES):
        for slot in range(2):
            pynet.ask("NetworkDriver.DeleteNetwork", {"NetworkID": f"{number:04x}{slot:04x}" * 8})
    return [
        *(bug for each in (*engines, *users) for bug in each.bugs),
        *told(samples, (began + ends) / 2, measured(pynet) | measured(pyvol)),
        *_latencies(pynet, pyvol, (began + ends) / 2, sum((Counter(each.answers) for each in engines), Counter())),
    ]


def told(samples: list[tuple[float, dict[str, float]]], middle: float, at_rest: dict[str, float]) -> list[str]:
    """The table of measures was printed; return which of them were not flat."""
    print("\n| measure | first | mean of the second half | grown in it | at rest after | flat |")
    print("|---|---|---|---|---|---|")
    faults = []
    for what in samples[0][1]:
        half = [(at, seen[what]) for at, seen in samples if at >= middle]
        (rise, error), flat = grown(half), is_flat(half)
        mean = statistics.fmean(value for _, value in half)
        cells = f"{samples[0][1][what]:.1f} | {mean:.1f} | {rise:+.1f} ± {error:.1f} | {at_rest[what]:.1f}"
        print(f"| {what} | {cells} | {'yes' if flat else 'NO'} |", flush=True)
        faults += [] if flat else [f"not flat: {what}"]
    return faults


def _latencies(pynet: Timed, pyvol: Timed, middle: float, answers: Counter[int]) -> list[str]:
    print("\n| verb | calls | ms, first half: p50 / p99 | second half: p50 / p99 |\n|---|---|---|---|")
    print("\n".join(latencies(pynet.took | pyvol.took, middle)))
    print(f"\npynet's answers to its engines by status: {dict(answers)}", flush=True)
    faults = []
    for method, took in sorted((pynet.took | pyvol.took).items()):
        half = [(at, seconds) for at, seconds in took if at >= middle]
        if len(half) > SAMPLES and not is_flat(half, little=0):
            faults.append(f"not flat: the latency of {method}")
    return faults


if __name__ == "__main__":
    sys.exit(main())
