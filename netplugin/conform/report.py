"""What came of the cases, for people, for other programs, for CI and for a browser."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment

from netplugin.conform.case import Case, Version
from netplugin.conform.verdict import Verdict
from pluginkit.cli import columns

_MARKS = {"passed": "ok", "failed": "FAILED", "not run": "-"}


@dataclass(frozen=True)
class Row:
    """A case in one IP version, and what came of it with each driver, in their order."""

    case: Case
    version: Version
    verdicts: tuple[Verdict, ...]


def rows(verdicts: Iterable[Verdict]) -> list[Row]:
    """Return the drivers' verdicts side by side, in the order of the cases."""
    found: dict[tuple[str, Version], list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault((verdict.case.id, verdict.version), []).append(verdict)
    return [Row(each[0].case, version, tuple(each)) for (_, version), each in found.items()]


def counts(verdicts: Sequence[Verdict]) -> dict[str, dict[str, int]]:
    """Return by driver how many cases have passed, have failed and were not run."""
    drivers = dict.fromkeys(verdict.driver for verdict in verdicts)
    return {
        driver: {
            outcome: sum(verdict.driver == driver and verdict.outcome == outcome for verdict in verdicts)
            for outcome in _MARKS
        }
        for driver in drivers
    }


def text(verdicts: Sequence[Verdict]) -> str:
    """Return a table, the reasons below it, and how many there are."""
    total = counts(verdicts)
    table = [["case", "IP", *total]]
    table += [
        [row.case.id, f"v{row.version}", *(_MARKS[each.outcome] for each in row.verdicts)] for row in rows(verdicts)
    ]
    reasons = [
        f"{verdict.driver}: {verdict.case.id} v{verdict.version} {verdict.outcome}: {verdict.why}"
        for verdict in verdicts
        if verdict.why
    ]
    sums = [f"{driver}: {', '.join(f'{n} {outcome}' for outcome, n in each.items())}" for driver, each in total.items()]
    return "\n".join([columns(table), "", *reasons, *[""] * bool(reasons), *sums])


def plain(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return the verdicts as JSON has them."""
    return [
        {
            "driver": verdict.driver,
            "case": verdict.case.id,
            "area": verdict.case.area,
            "source": verdict.case.source,
            "says": verdict.case.says,
            "version": verdict.version,
            "outcome": verdict.outcome,
            "why": verdict.why,
            "seconds": round(verdict.seconds, 3),
        }
        for verdict in verdicts
    ]


def junit(verdicts: Sequence[Verdict]) -> bytes:
    """Return the verdicts as CI servers read them: a suite a driver."""
    root = ElementTree.Element("testsuites")
    for driver, total in counts(verdicts).items():
        mine = [verdict for verdict in verdicts if verdict.driver == driver]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=driver,
            tests=str(len(mine)),
            failures=str(total["failed"]),
            skipped=str(total["not run"]),
            errors="0",
            time=f"{sum(verdict.seconds for verdict in mine):.3f}",
        )
        for verdict in mine:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=f"{driver}.{verdict.case.area}",
                name=f"{verdict.case.id} v{verdict.version}",
                time=f"{verdict.seconds:.3f}",
            )
            if verdict.outcome != "passed":
                element = "failure" if verdict.outcome == "failed" else "skipped"
                ElementTree.SubElement(case, element, message=_printable(verdict.why)).text = verdict.case.says
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def html(verdicts: Sequence[Verdict], engine: str) -> str:
    """Return one page without anything from elsewhere. engine: what it calls itself."""
    template = Environment(autoescape=True).from_string(
        files("netplugin.conform").joinpath("page.html").read_text(encoding="utf-8")
    )
    areas: dict[str, list[Row]] = {}
    for row in rows(verdicts):
        areas.setdefault(row.case.area, []).append(row)
    return template.render(areas=areas, counts=counts(verdicts), engine=engine, marks=_MARKS)


def _printable(said: str) -> str:
    """Return what XML may hold of a text: a reason can repeat bytes of a packet."""
    return "".join(letter if letter.isprintable() else " " for letter in said)
