"""Measure pynet under both firewall backends and Docker's own bridge driver, alternating; print a table.

Every driver has a dockerd and a network namespace of its own. Only ratios of one run mean anything: the machine has
other work to do.
"""

import argparse
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from integration.bench.laboratory import laboratory
from integration.bench.samples import Samples
from integration.bench.subject import NETWORK, Subject, run_of
from integration.lab.engine import ENGINES
from integration.lab.host import Drivers, Host
from integration.lab.stub import stub_network
from integration.lab.wirehost import WireHost

REFERENCE = "docker"
VARIANTS = {
    "pynet, nftables": (Drivers("pynet", "local", "nftables"), ()),
    "pynet, iptables": (Drivers("pynet", "local", "iptables"), ()),
    REFERENCE: (Drivers("bridge", "local"), ()),
    "docker, no proxy": (Drivers("bridge", "local"), ("--userland-proxy=false",)),
}
SOME, RANGE = 100, 10_000
# The last one takes Docker minutes.
LEVELS = (10, 10_000, 1_000)
CONNECTS = 200


def main() -> None:
    """Everything was measured and printed, and nothing of it is left."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--engine", default="docker-20.10", choices=sorted(ENGINES))
    parser.add_argument("--rounds", type=int, default=5, help="how often each cheap thing is measured")
    parser.add_argument("--docker-most", type=int, default=1000, help="ports that Docker's own driver is asked for")
    parser.add_argument("--json", type=Path, help="file for all samples, in seconds")
    chosen = parser.parse_args()
    engine = ENGINES[chosen.engine]
    samples = Samples(tuple(VARIANTS), REFERENCE)
    with laboratory(engine, Drivers()) as lab, ExitStack() as stack:
        subjects = []
        for number, (name, (drivers, arguments)) in enumerate(VARIANTS.items(), 1):
            kind = replace(engine, arguments=(*engine.arguments, *arguments))
            host = Host(f"b{number}", lab.root / f"b{number}", lab.wire, kind, drivers)
            stack.callback(host.close)
            subjects.append(Subject(name, host))
        version = subjects[0].host.docker("version", "--format", "{{.Server.Version}}")
        try:
            measure_verbs(samples, subjects, chosen.rounds)
            measure_range(samples, subjects, chosen.rounds)
            measure_levels(samples, subjects, lab.wire_host("outside"), chosen.rounds, chosen.docker_most)
        finally:
            print(f"\nengine {version}, kernel {subjects[0].host.run('uname', '-r').strip()}\n\n{samples.table()}")
            if chosen.json:
                chosen.json.write_text(samples.json())


def measure_verbs(samples: Samples, subjects: list[Subject], rounds: int) -> None:
    """Noted: networks, endpoints, and a container with one port."""
    with ExitStack() as stack:
        for subject in subjects:
            stack.enter_context(subject.idle_container())
        for _ in range(rounds):
            for subject in subjects:
                for measure, seconds in zip(("create", "rm"), subject.create_and_remove_network(), strict=True):
                    samples.note(f"docker network {measure}", subject.name, seconds)
                for measure, seconds in zip(("connect", "disconnect"), subject.attach_and_detach(), strict=True):
                    samples.note(f"docker network {measure}", subject.name, seconds)
    for _ in range(rounds):
        for subject in subjects:
            note_run(samples, subject, "no port")
            note_run(samples, subject, "1 port", "-p", "8080:80")
    told("networks, endpoints, containers with one port")


def measure_range(samples: Samples, subjects: list[Subject], rounds: int) -> None:
    """Noted: a container with a run of some ports, and of very many on our hosts."""
    for _ in range(rounds):
        for subject in subjects:
            note_run(samples, subject, f"{SOME} ports", *run_of(SOME))
    for _ in range(rounds):
        for subject in subjects:
            if subject.is_ours:
                note_run(samples, subject, "1 port again", "-p", "8080:80")
                note_run(samples, subject, f"{RANGE} ports", *run_of(RANGE))
    # What the engine itself takes for them: it tells a driver that does nothing about every port, three times.
    floor = subjects[0]
    with stub_network(floor.host) as network:
        for _ in range(rounds):
            for what, options in (("1 port", ("-p", "8080:80")), (f"{RANGE} ports", run_of(RANGE))):
                note_run(samples, floor, f"{what}, idle driver", *options, network=network)
    told("ranges of ports")


def measure_levels(samples: Samples, subjects: list[Subject], outside: WireHost, rounds: int, most: int) -> None:
    """Noted: one more port, and a new connection, beside more and more ports; Docker's driver up to `most`."""
    for level in LEVELS:
        filled = [subject for subject in subjects if subject.is_ours or level <= most]
        for subject in filled:
            samples.note(f"publish {level} ports", subject.name, subject.fill(level))
        for subject in filled:
            if subject.is_ours:
                what = f"ProgramExternalConnectivity of 1 port beside {level}"
                samples.note(what, subject.name, *subject.publish_once_more(4 * rounds))
        for _ in range(rounds):
            for subject in filled:
                note_run(samples, subject, f"1 port beside {level}", "-p", "8080:80")
        with ExitStack() as stack:
            for subject in filled:
                stack.enter_context(subject.service())
            for _ in range(rounds):
                for subject in filled:
                    samples.note(f"connect() beside {level}", subject.name, *subject.connects(outside, CONNECTS))
        told(f"{level} published ports")
        for subject in filled:
            if not subject.is_ours or level == max(LEVELS):
                samples.note(f"withdraw {level} ports", subject.name, subject.empty())


def note_run(samples: Samples, subject: Subject, what: str, *options: str, network: str = NETWORK) -> None:
    """Noted: one container started and removed."""
    started, within, removed = subject.run_and_remove(network, *options)
    samples.note(f"docker run -d, {what}", subject.name, started)
    if within and network == NETWORK:
        samples.note(f"of it within pynet, {what}", subject.name, within)
    samples.note(f"docker rm -f, {what}", subject.name, removed)


def told(what: str) -> None:
    """Whoever waits knows how far it is."""
    print(f"measured: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
