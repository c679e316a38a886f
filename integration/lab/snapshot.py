"""What a host has in its kernel, in a form that can be compared."""

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path

from integration.lab.namespace import Namespace

MARK = "=== "
COMMANDS = {
    "links": "ip -json -details link",
    # Whoever first needs IPv6 forwarding closes it for everybody else, and leaves it so, as the engine does with IPv4.
    "firewall": "iptables-save; ip6tables-save | sed '/^:FORWARD DROP/d'",
    "nftables": "nft --stateless list ruleset 2>/dev/null || true",
    "routes": "ip -json route; ip -json -6 route",
    "rules": "ip rule; ip -6 rule",
    "loops": "losetup --json --list --output NAME,BACK-FILE",
    "namespaces": "ls /run/netns 2>/dev/null || true",
}
SCRIPT = "set -e\n" + "".join(f"echo '{MARK}{name}'\n{command}\n" for name, command in COMMANDS.items())
# Built-in chains that let everything through say only that somebody once looked at the table.
SILENT = re.compile(r"^(:[A-Z]+ ACCEPT|\*|#|COMMIT)")
IPTABLES_OWN = re.compile(r"table (ip|ip6) (filter|nat|mangle|raw|security)$|# Warning")
ENGINES_OWN = "/run/docker/netns/default"  # a mount that the engine keeps from its first container on


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Links, firewall rules, routes, loop devices, mounts, network namespaces and programs, each as lines of text."""

    links: frozenset[str]
    firewall: tuple[str, ...]  # sorted; a rule that stands twice counts twice
    routes: frozenset[str]
    loops: frozenset[str]
    mounts: tuple[str, ...]
    namespaces: frozenset[str]
    programs: tuple[str, ...]

    def difference(self, later: "Snapshot") -> list[str]:
        """Nothing, or one line for each thing that `later` has more (+) or less (-)."""
        lines = []
        for field in fields(self):
            was, now = list(getattr(self, field.name)), list(getattr(later, field.name))
            for item in was:
                if item in now:
                    now.remove(item)
                else:
                    lines.append(f"- {field.name}: {item}")
            lines += [f"+ {field.name}: {item}" for item in now]
        return lines


def take(machine: Namespace) -> Snapshot:
    """The machine as it is now; loop devices count only when their file lies in the machine's own folder."""
    output = machine.run("sh", "-c", SCRIPT)
    parts = {head.strip(): body for head, _, body in (part.partition("\n") for part in output.split(MARK)[1:])}
    loops = json.loads(parts["loops"])["loopdevices"] if parts["loops"].strip() else []
    return Snapshot(
        links=frozenset(_link(link) for link in json.loads(parts["links"])),
        firewall=tuple(sorted([*_rules(parts["firewall"]), *_tables(parts["nftables"])])),
        routes=frozenset([*_routes(parts["routes"]), *(line.strip() for line in parts["rules"].splitlines())]),
        loops=frozenset(file for loop in loops if (file := str(loop["back-file"])).startswith(f"{machine.root}/")),
        mounts=tuple(sorted(_mounts(machine))),
        namespaces=frozenset(name for name in parts["namespaces"].split() if name != ENGINES_OWN and name[0] != "/"),
        programs=tuple(sorted(_programs(machine))),
    )


def _link(link: dict[str, object]) -> str:
    details = link.get("linkinfo")
    kind = details.get("info_kind", "") if isinstance(details, dict) else ""
    return f"{link['ifname']} {kind} {link.get('ifalias', '')}".strip()


def _rules(text: str) -> list[str]:
    without_counters = (re.sub(r"\[\d+:\d+\]", "", line).strip() for line in text.splitlines())
    return [line for line in without_counters if line and not SILENT.match(line)]


def _tables(text: str) -> list[str]:
    """Every line of the tables that are not iptables' own, each after the names of its table and chain."""
    lines, where = [], ["", ""]
    for line in text.splitlines():
        depth = (len(line) - len(line.lstrip("\t"))) if line.strip(" \t}") else 2
        if depth < 2:
            where[depth:] = [line.strip(" \t{"), ""][: 2 - depth]
        if line.strip(" \t}") and not IPTABLES_OWN.match(where[0]):
            lines.append(" / ".join([*where[:depth], line.strip(" \t{")]))
    return lines


def _routes(text: str) -> list[str]:
    routes = [route for line in text.splitlines() if line.strip() for route in json.loads(line)]
    # A link-local or multicast route comes and goes with the carrier of its link.
    return [
        f"{route['dst']} via {route.get('gateway', '-')} dev {route.get('dev', '-')}"
        for route in routes
        if not str(route["dst"]).startswith(("fe80:", "ff00:", "multicast"))
    ]


def _mounts(machine: Namespace) -> list[str]:
    mounted = Path(f"/proc/{machine.pid}/mountinfo").read_text().splitlines()
    return [words[4] for words in (line.split() for line in mounted) if words[4] != ENGINES_OWN]


def _programs(machine: Namespace) -> list[str]:
    # One that ends while it is looked at makes cat(1) complain, and is rightly not in the list.
    names = machine.try_run("sh", "-c", "cat /proc/[0-9]*/comm").stdout.split("\n")
    return [name for name in names if name and name not in ("sh", "cat")]
