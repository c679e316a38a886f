"""`make conform`: the cases of packets, or of volumes, through Docker's own driver and through ours, side by side."""

import argparse
import json
import sys
from pathlib import Path

from integration.bench.laboratory import laboratory
from integration.lab.engine import ENGINES
from integration.lab.host import Drivers
from integration.lab.restarts import restarts

# What is tried: the program's package, its drivers, and the longest that all may take.
TRIED = {"packets": ("netplugin", ("bridge", "pynet"), 1800), "volumes": ("volplugin", ("local", "pyvol"), 1800)}
MARKS = {"passed": "yes", "failed": "**no**", "not run": "not run"}


def main() -> None:
    """Everything that was said is in a folder; the rows in which the drivers differ, or fail, were printed."""
    parser = argparse.ArgumentParser(prog="integration.bench.conform", description=__doc__)
    parser.add_argument("what", nargs="?", default="packets", choices=sorted(TRIED))
    parser.add_argument("--engine", default="docker-28.5", choices=sorted(ENGINES))
    parser.add_argument("--firewall", default="nftables", choices=["iptables", "nftables"])
    parser.add_argument("--to", type=Path, default=Path("build/conform"), help="folder for page, JSON and JUnit's XML")
    parser.add_argument("--case", action="append", default=[], help="only cases of such a name")
    options = parser.parse_args()
    folder = options.to.resolve() / options.what
    folder.mkdir(parents=True, exist_ok=True)
    package, drivers, timeout_s = TRIED[options.what]
    with laboratory(ENGINES[options.engine], Drivers(firewall=options.firewall)) as lab:
        host = lab.host()
        with restarts(host) as restart:
            done = host.machine.try_run(
                *(sys.executable, "-m", package, "conform", "--json"),
                *(word for driver in drivers for word in ("--driver", driver)),
                *(word for case in options.case for word in ("--case", case)),
                *("--html", str(folder / "page.html"), "--junit", str(folder / "junit.xml")),
                *(("--restart", restart) if options.what == "volumes" else ()),
                env={"PATH": host.kind.path()},
                timeout_s=timeout_s,
            )  # fmt: skip
    if not done.stdout:
        sys.exit(done.stderr)
    (folder / "verdicts.json").write_text(done.stdout)
    print(table(json.loads(done.stdout)))


def table(verdicts: list[dict[str, str]]) -> str:
    """What has not passed with all drivers, as a table in Markdown, and a sum for each."""
    played: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for each in verdicts:
        played.setdefault((each["case"], str(each.get("version", ""))), {})[each["driver"]] = each
    drivers = list(dict.fromkeys(each["driver"] for each in verdicts))
    rows: dict[tuple[str, str, str], list[str]] = {}
    for (case, version), found in played.items():
        if any(each["outcome"] != "passed" for each in found.values()):
            marks = " | ".join(MARKS[found[driver]["outcome"]] for driver in drivers)
            why = "; ".join(dict.fromkeys(each["why"] for each in found.values() if each["why"]))
            rows.setdefault((case, marks, why), []).append(str(version))
    lines = [f"| differs | IPv | {' | '.join(drivers)} | what was seen |", "|---|---|" + "---|" * (len(drivers) + 1)]
    lines += [
        f"| `{case}` | {', '.join(versions)} | {marks} | {why} |" for (case, marks, why), versions in rows.items()
    ]
    for outcome in MARKS:
        sums = [sum(found[driver]["outcome"] == outcome for found in played.values()) for driver in drivers]
        lines.append(f"| all: {outcome} | | {' | '.join(map(str, sums))} | |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
