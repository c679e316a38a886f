"""The page docs/matrix.md, from what the last runs wrote down: which file of tests was run where, and how it went.

Run as a module, with a FOLDER, it prints the table. FOLDER has junit files of pytest's, ENGINE_FORM.xml, or several
for one engine and form, ENGINE_FORM_WORD.xml, of which the latest that has a test counts.
"""

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from integration.lab.differences import DIFFERENCES, difference
from integration.lab.engine import ENGINES

FORMS = ("legacy", "managed")
NOT_THERE = "–"  # noqa: RUF001 - what stands in a table for nothing


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test went, and when its run began."""

    test: str  # FILE::NAME[PARAMETERS]
    good: bool
    began: str


def cells() -> list[tuple[str, str]]:
    """Engine and form of each column."""
    return [(engine, form) for engine in ENGINES for form in FORMS]


def outcomes(folder: Path, engine: str, form: str) -> dict[str, Outcome]:
    """The latest outcome of each test in that engine and form."""
    found: dict[str, Outcome] = {}
    for path in [*folder.glob(f"{engine}_{form}.xml"), *folder.glob(f"{engine}_{form}_*.xml")]:
        for outcome in read(path):
            if difference(outcome.test, engine, form):
                continue  # it has been run, and was then found not to apply
            if outcome.test not in found or found[outcome.test].began < outcome.began:
                found[outcome.test] = outcome
    return found


def read(path: Path) -> list[Outcome]:
    """What a junit file says about each test."""
    read_outcomes = []
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        for case in suite.iter("testcase"):
            # A class name is the module's: integration.test_x. What ended a whole run has none.
            _, _, module = case.get("classname", "").partition(".")
            if not module:
                continue
            file = f"{module}.py"
            good = not any(case.find(bad) is not None for bad in ("failure", "error", "skipped"))
            read_outcomes.append(Outcome(f"{file}::{case.get('name')}", good, suite.get("timestamp", "")))
    return read_outcomes


def cell(file: str, engine: str, form: str, found: Iterable[Outcome]) -> str:
    """What stands in the table: tests that passed, of how many if not all did; or that there are none for it."""
    of_file = [outcome for outcome in found if outcome.test.startswith(f"{file}::")]
    if not of_file:
        whole = any(f"{file}::*" in row.tests for row in DIFFERENCES)
        return NOT_THERE if whole and difference(f"{file}::test", engine, form) else ""
    passed = sum(outcome.good for outcome in of_file)
    return str(passed) if passed == len(of_file) else f"**{passed} of {len(of_file)}**"


def table(files: Iterable[str], folder: Path) -> str:
    """The files of tests as rows, engines in each form as columns; the last row says when each was run."""
    columns: Mapping[tuple[str, str], dict[str, Outcome]] = {each: outcomes(folder, *each) for each in cells()}
    names = [f"{engine} {form}" for engine, form in columns]
    lines = [f"| tests | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for file in files:
        entries = [cell(file, *where, found.values()) for where, found in columns.items()]
        lines.append(f"| `{file}` | {' | '.join(entries)} |")
    days = [max((outcome.began[:10] for outcome in found.values()), default="") for found in columns.values()]
    lines.append(f"| last run | {' | '.join(days)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(sorted(path.name for path in Path(__file__).parents[1].glob("test_*.py")), Path(sys.argv[1])))
