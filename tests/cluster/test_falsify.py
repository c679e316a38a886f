"""Entries and neighbours are deleted, added and falsified at random; each time all is right again within two seconds.

FALSIFY_TIMES says how often, FALSIFY_SEED repeats a run.
"""

import os
import random
import subprocess
import threading
import time
from dataclasses import replace

import pytest

from tests.cluster.test_directory import BLUE, endpoint
from tests.cluster.test_plugin import (
    BRIDGE,
    DEVICE,
    OTHER,
    entries,
    neighbours,
    other,
    output,
    plugin,
    start,
    wait_for,
    wire,
)

__all__ = ["other", "plugin", "start", "wire"]

TIMES = int(os.environ.get("FALSIFY_TIMES", "20"))
SEED = int(os.environ.get("FALSIFY_SEED", "0")) or random.randrange(1 << 32)
WITHIN_S = 2.0
SETTLE_S = 0.2
ELSEWHERE = "10.90.0.66"
NUMBERS = range(5, 10)
FALSIFICATIONS = (
    "bridge fdb del {mac} dev {device} dst {vtep} self",
    "bridge fdb del {mac} dev {device} master",
    "bridge fdb replace {mac} dev {device} dst {elsewhere} self permanent",
    "bridge fdb replace 02:00:00:00:00:{number:02x} dev {device} dst {elsewhere} self permanent",
    "bridge fdb del 00:00:00:00:00:00 dev {device} dst {vtep}",
    "bridge fdb append 00:00:00:00:00:00 dev {device} dst {elsewhere}",
    "ip neigh del {address} dev {bridge}",
    "ip neigh replace {address} lladdr 02:00:00:00:00:66 dev {bridge} nud permanent",
    "ip neigh replace 10.9.0.1{number:02} lladdr 02:00:00:00:00:66 dev {bridge} nud permanent",
    "ip link set {device} down",
    "ip link del {device}",
)


def behind():
    shown = output("bridge", "fdb", "show", "br", BRIDGE).splitlines()
    return sorted(line for line in shown if "sticky" in line)


def state():
    return entries(), neighbours(), behind()


@pytest.fixture
def repairing(plugin):
    """The plugin repairs what it notices, as Monitor.run and the service do together, until the test is over."""
    over, wake = threading.Event(), threading.Event()

    def watch():
        while not over.wait(0.02):
            if what := plugin._monitor.look():
                time.sleep(SETTLE_S)
                plugin._monitor.look()
                plugin.drifted(what)
                wake.set()

    def reconcile():
        while not over.is_set():
            if wake.wait(0.1):
                wake.clear()
                plugin.reconcile()

    threads = [threading.Thread(target=one) for one in (watch, reconcile)]
    for thread in threads:
        thread.start()
    yield plugin
    over.set()
    for thread in threads:
        thread.join()


def test_what_is_falsified_at_random_is_right_again_within_two_seconds(repairing, other):
    for number in NUMBERS:
        other.claim(other.join(replace(BLUE, id="f" * 64)), endpoint(number))
    wait_for(lambda: (len(entries()), len(neighbours())), (1 + len(NUMBERS), 2 * len(NUMBERS)))
    right = state()
    chance = random.Random(SEED)
    took = []
    for _ in range(TIMES):
        number = chance.choice(NUMBERS)
        wanted = endpoint(number)
        address = chance.choice((wanted.address4, wanted.address6)).ip
        names = {"mac": wanted.mac, "address": address, "number": number, "device": DEVICE, "bridge": BRIDGE}
        command = chance.choice(FALSIFICATIONS).format(vtep=OTHER, elsewhere=ELSEWHERE, **names)
        subprocess.run(["sh", "-ec", command], check=True)
        began = time.monotonic()
        while not is_right(right):
            assert time.monotonic() - began < WITHIN_S, f"FALSIFY_SEED={SEED}: {command}: {state()}"
            time.sleep(0.02)
        took.append(time.monotonic() - began)
    print(f"FALSIFY_SEED={SEED}: {TIMES} times, the last one right after {max(took):.2f} s at most")


def is_right(right):
    try:
        return state() == right
    except subprocess.CalledProcessError:
        # The device is gone.
        return False
