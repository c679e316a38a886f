"""Prints the tables of docs/conformance.md: packet `cases`, `breakages` that kill them, and cases of `volumes`."""

import sys

from netplugin.conform.catalogue import CASES
from tests.conformance.breakages import BREAKAGES
from volplugin.conform.catalogue import CASES as OF_VOLUMES


def cases() -> None:
    """The table of the cases was printed."""
    print("| case | area | IPv | on | from | what must hold | killed by |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        versions, kinds = ", ".join(map(str, case.versions)), ", ".join(case.kinds)
        killers = ", ".join(each.id for each in BREAKAGES if case.id in each.kills)
        print(f"| `{case.id}` | {case.area} | {versions} | {kinds} | {case.source} | {case.says} | {killers} |")


def breakages() -> None:
    """The table of what is broken was printed."""
    print("| broken | what is done |")
    print("|---|---|")
    for each in BREAKAGES:
        print(f"| {each.id} | {each.says} |")


def volumes() -> None:
    """The table of the cases of volumes was printed."""
    print("| volume case | area | from | what must hold |")
    print("|---|---|---|---|")
    for case in OF_VOLUMES:
        print(f"| `{case.id}` | {case.area} | {case.source} | {case.says} |")


if __name__ == "__main__":
    {"cases": cases, "breakages": breakages, "volumes": volumes}[sys.argv[1]]()
