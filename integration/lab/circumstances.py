"""What a test changes about a machine for a while: each is as it was after the block."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from integration.lab.host import Host
from integration.lab.wirehost import WireHost

REACH = str(Path(__file__).with_name("reach.py"))


def reach(machine: WireHost, targets: Mapping[str, str], entering: tuple[str, ...] = ()) -> dict[str, str]:
    """The outcome of each target by its name: answered, refused, unreachable or silent; see reach.py."""
    said = machine.run(*entering, sys.executable, "-IS", REACH, *targets.values()).split("\n")
    return dict(zip(targets, said, strict=False))


def answering(machine: WireHost, targets: Mapping[str, str], entering: tuple[str, ...] = ()) -> set[str]:
    """The names of the targets that answered."""
    return {name for name, outcome in reach(machine, targets, entering).items() if outcome == "answered"}


def outcome(machine: WireHost, target: str, entering: tuple[str, ...] = ()) -> str:
    """The outcome of a single target."""
    return reach(machine, {"it": target}, entering)["it"]


@contextlib.contextmanager
def changed(machine: WireHost, do: str, undo: str) -> Iterator[None]:
    """Inside the block the first shell command was run, after it the second."""
    machine.run("sh", "-ec", do)
    try:
        yield
    finally:
        machine.run("sh", "-c", undo)


@contextlib.contextmanager
def route(machine: WireHost, *routes: str) -> Iterator[None]:
    """Inside the block the machine has these routes, each "DESTINATION via NEXT-HOP"."""
    do = [f"ip route add {it}" for it in routes]
    undo = [f"ip route del {it}" for it in routes]
    with changed(machine, "\n".join(do), "\n".join(undo)):
        yield


@contextlib.contextmanager
def address(machine: WireHost, *addresses: str) -> Iterator[None]:
    """Inside the block the machine has these addresses, with their prefix lengths, on the wire too."""
    do = [f"ip address add {it} dev eth0{' nodad' if ':' in it else ''}" for it in addresses]
    undo = [f"ip address del {it} dev eth0" for it in addresses]
    with changed(machine, "\n".join(do), "\n".join(undo)):
        yield


@contextlib.contextmanager
def rule(machine: WireHost, rule: str, program: str = "iptables") -> Iterator[None]:
    """Inside the block the rule, "CHAIN MATCHES -j TARGET", stands first in its chain."""
    with changed(machine, f"{program} -w -I {rule}", f"{program} -w -D {rule}"):
        yield


@contextlib.contextmanager
def bridged_frames(machine: WireHost, *, pass_iptables: bool) -> Iterator[None]:
    """Inside the block bridged frames pass iptables, or do not; which it is otherwise is up to the engine."""
    keys = ("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")
    was = machine.run("sysctl", "-n", *keys).split()
    do = "\n".join(f"sysctl -qw {key}={int(pass_iptables)}" for key in keys)
    undo = "\n".join(f"sysctl -qw {key}={value}" for key, value in zip(keys, was, strict=True))
    with changed(machine, do, undo):
        yield


@contextlib.contextmanager
def forward_policy(host: Host, policy: str) -> Iterator[None]:
    """Inside the block FORWARD has that policy in both families."""
    saved = {
        program: next(line for line in host.run(program, "-S", "FORWARD").splitlines() if line.startswith("-P"))
        for program in ("iptables", "ip6tables")
    }
    do = "\n".join(f"{program} -w -P FORWARD {policy}" for program in saved)
    undo = "\n".join(f"{program} -w {line}" for program, line in saved.items())
    with changed(host, do, undo):
        yield


@contextlib.contextmanager
def engines_rules_kept(host: Host) -> Iterator[None]:
    """After the block the engine's own rules are there again, which the plugins do not repair."""
    saved = {program: host.run(f"{program}-save") for program in ("iptables", "ip6tables")}
    try:
        yield
    finally:
        for program, rules in saved.items():
            host.run(f"{program}-restore", stdin=rules)
