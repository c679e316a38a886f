"""kill -9 of pynet at random moments, while users of the engine are busy: after each restart all that runs works.

Four kills here, a hundred by `make chaos`. The seed is printed; CHAOS_SEED repeats the choices, though not the moments
at which the engine and the kernel take their turns.
"""

import os
import random
import secrets
import threading
import time
from collections import Counter

import pytest

from integration.lab.circumstances import answering
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.namespace import CommandFailed

KILLS = int(os.environ.get("CHAOS_KILLS", "4"))
USERS = 3
NETWORKS = {"n1": "10.61.0", "n2": "10.62.0"}


class User(threading.Thread):
    """Somebody with two containers of his own, who does one thing after the other, except while parked.

    What fails while pynet is away is his bad luck, and counted.
    """

    def __init__(self, number: int, host: Host, seed: str) -> None:
        super().__init__(daemon=True)
        self.host, self.chance = host, random.Random(f"{seed} {number}")
        self.ports = {f"u{number}c{which}": 8000 + 10 * number + which for which in range(2)}
        # The engine withdraws the ports and opens them again when a network comes or goes, and may have failed in that.
        self.unpublished: set[str] = set()
        self.done: Counter[str] = Counter()
        self.ended = False
        self._turn = threading.Lock()

    def park(self) -> None:
        """He has finished what he was at, and does nothing more until `go_on`."""
        self._turn.acquire()

    def go_on(self) -> None:
        """He does one thing after the other again."""
        self._turn.release()

    def run(self) -> None:
        while not self.ended:
            with self._turn:
                verb = self.chance.choice(["begin", "begin", "remove", "connect", "disconnect", "restart", "network"])
                name, network = self.chance.choice([*self.ports]), self.chance.choice([*NETWORKS])
                try:
                    getattr(self, verb)(name, network)
                    if verb in ("begin", "restart"):
                        self.unpublished.discard(name)
                except CommandFailed:
                    self.unpublished.add(name)
                    verb += " failed"
                self.done[verb] += 1
            time.sleep(0.01)  # who waits for the turn gets it

    def begin(self, name: str, network: str) -> None:
        """The container runs, with its port."""
        self.host.web(name, "--network", network, "-p", f"{self.ports[name]}:80")

    def remove(self, name: str, network: str) -> None:  # noqa: ARG002 - one signature for all
        """The container is gone."""
        self.host.docker("rm", "-f", name)

    def connect(self, name: str, network: str) -> None:
        """The container is in the network too."""
        self.host.docker("network", "connect", network, name)

    def disconnect(self, name: str, network: str) -> None:
        """The container is not in the network."""
        self.host.docker("network", "disconnect", network, name)

    def restart(self, name: str, network: str) -> None:  # noqa: ARG002
        """The container was stopped and started."""
        self.host.docker("restart", "-t", "0", name)

    def network(self, name: str, network: str) -> None:  # noqa: ARG002
        """A network of his own was there for a moment."""
        own = f"{self.name}-own"
        self.host.docker("network", "create", "-d", self.host.drivers.network, own)
        self.host.docker("network", "rm", own)


@pytest.mark.timeout(300 + 20 * KILLS)
def test_killed_while_users_are_busy(host: Host) -> None:
    seed = os.environ.get("CHAOS_SEED") or secrets.token_hex(4)
    print(f"CHAOS_SEED={seed} CHAOS_KILLS={KILLS}")
    chance = random.Random(seed)
    for network, prefix in NETWORKS.items():
        host.docker("network", "create", "-d", host.drivers.network, "--subnet", f"{prefix}.0/24", network)
    users = [User(number, host, seed) for number in range(USERS)]
    pynet = host.plugins["pynet"]
    checked = 0
    for user in users:
        user.start()
    try:
        for kill in range(KILLS):
            time.sleep(chance.uniform(0.1, 2.0))
            pynet.kill()
            pynet.start()
            for user in users:
                user.park()
            try:
                checked += check(host, users, f"after kill {kill + 1} of seed {seed}")
            finally:
                for user in users:
                    user.go_on()
    finally:
        for user in users:
            user.ended = True
        for user in users:
            user.join(60)
    known = {f"pn-{network[:8]}" for network in host.docker("network", "ls", "-q", "--filter", "driver=pynet").split()}
    wait_for("bridges of networks that the engine knows, alone", lambda: bridges(host) == known, 60)
    # An engine that makes several networks at once puts its own jump in more than once.
    again = "iptables -S FORWARD | grep -x -- '-A FORWARD -j DOCKER-USER' | tail -n +2 | sed 's/^-A/iptables -D/' | sh"
    host.run("sh", "-c", again)
    print(f"{KILLS} kills, {checked} times tried; {dict(sum((user.done for user in users), Counter()))}")


def bridges(host: Host) -> set[str]:
    """The names of pynet's bridges."""
    links = host.run("ip", "-o", "link", "show", "type", "bridge").splitlines()
    return {name for line in links if (name := line.split()[1].rstrip(":")).startswith("pn-")}


def check(host: Host, users: list[User], when: str) -> int:
    """Whatever runs is reached where it is said to be; return how many ways those were."""
    running = host.docker("ps", "--format", "{{.Names}} {{.Networks}}").splitlines()
    ports = {name: port for user in users for name, port in user.ports.items() if name not in user.unpublished}
    targets = {}
    for name, _, networks in (line.partition(" ") for line in running):
        # A container can have left all its networks, and nothing leads to it then.
        for network in filter(None, networks.split(",")):
            # Nor to a network that it could not be connected to, in which the engine goes on listing it.
            if address := host.address_of(name, network):
                targets[f"{name} in {network}"] = f"tcp {address} 80"
                if name in ports:
                    targets[f"{name} by its port"] = f"tcp {host.address} {ports[name]}"
    assert answering(host, targets) == set(targets), when
    return len(targets)
