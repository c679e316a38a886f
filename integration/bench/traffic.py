"""Measure what passes through a bridge network of pynet, under both firewalls, beside Docker's own: in turns.

Throughput of one TCP connection, and round trips of one byte, between two containers, from a container to its host, and
from another machine to a published port.
"""

import argparse
from contextlib import ExitStack

from integration.bench.flow import PORT, bits_a_second, pouring, round_trips
from integration.bench.laboratory import laboratory
from integration.bench.samples import Samples, Unit
from integration.lab.deadline import wait_for
from integration.lab.engine import ENGINES
from integration.lab.host import Drivers, Host
from integration.lab.wirehost import WireHost

REFERENCE = "docker"
VARIANTS = {
    "pynet, nftables": Drivers("pynet", "local", "nftables"),
    "pynet, iptables": Drivers("pynet", "local", "iptables"),
    REFERENCE: Drivers("bridge", "local"),
}
NETWORK, SUBNET, GATEWAY, PUBLISHED = "bench", "10.61.0.0/24", "10.61.0.1", 8080
AMOUNT = 512 * 2**20
TRIPS = 2000
# Sender, entering what; address; port.
Way = tuple[WireHost, tuple[str, ...], str, int]


def main() -> None:
    """Everything was measured and printed, and nothing of it is left."""
    parser = argparse.ArgumentParser(prog="scripts/bench traffic", description=__doc__)
    parser.add_argument("--engine", default="docker-28.5", choices=sorted(ENGINES))
    parser.add_argument("--rounds", type=int, default=15, help="how often everything is measured")
    chosen = parser.parse_args()
    bits, seconds = Samples(tuple(VARIANTS), REFERENCE, Unit("Gbit/s", 1e-9)), Samples(tuple(VARIANTS), REFERENCE)
    with laboratory(ENGINES[chosen.engine], Drivers()) as lab, ExitStack() as stack:
        outside = lab.wire_host("outside")
        ways = {}
        for number, (name, drivers) in enumerate(VARIANTS.items(), 1):
            host = Host(f"t{number}", lab.root / f"t{number}", lab.wire, ENGINES[chosen.engine], drivers)
            stack.callback(host.close)
            host.start()
            ways[name] = ready(host, outside, stack)
        names = list(ways)
        for number in range(chosen.rounds):
            # Nobody is always the first one, nor always behind the same one.
            order = names[number % len(names) :] + names[: number % len(names)]
            for name in order if number % 2 else reversed(order):
                for what, (sender, entering, address, port) in ways[name].items():
                    bits.note(what, name, bits_a_second(sender, entering, address, AMOUNT, port))
                    seconds.note(what, name, *round_trips(sender, entering, address, TRIPS, port))
    print(f"{bits.table()}\n\n{seconds.table()}")


def ready(host: Host, outside: WireHost, stack: ExitStack) -> dict[str, Way]:
    """The host has two containers on a network and takes what is poured; return the ways there."""
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", SUBNET, "--gateway", GATEWAY, NETWORK)
    host.idle("one", "--network", NETWORK)
    host.idle("two", "--network", NETWORK, "-p", f"{PUBLISHED}:{PORT}")
    stack.enter_context(pouring(host, "host", ()))
    stack.enter_context(pouring(host, "two", host.network_of("two")))
    inside = host.network_of("one")
    ways: dict[str, Way] = {
        "between two containers": (host, inside, host.address_of("two", NETWORK), PORT),
        "from a container to its host": (host, inside, GATEWAY, PORT),
        "from another machine to a published port": (outside, (), host.address, PUBLISHED),
    }
    for sender, entering, address, port in ways.values():
        wait_for(f"{address} takes it", lambda way=(sender, entering, address, 1, port): bool(round_trips(*way)))
    return ways


if __name__ == "__main__":
    main()
