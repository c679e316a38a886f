"""Prints the tables of packet cases and of what kills them, for docs/conformance.md: `cases` or `breakages`."""

import sys

from netplugin.conform.catalogue import CASES
from tests.conformance.breakages import BREAKAGES


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


if __name__ == "__main__":
    {"cases": cases, "breakages": breakages}[sys.argv[1]]()
