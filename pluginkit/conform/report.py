"""What came of the cases, for people, for other programs, for CI and for a browser."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment

from pluginkit.cli import as_json, columns
from pluginkit.conform.verdict import Described, Verdict
from pluginkit.errors import PluginError

_MARKS = {"passed": "ok", "failed": "FAILED", "not run": "-"}


@dataclass(frozen=True)
class Row:
    """A case, in one IP version if there are two, and what came of it with each driver, in their order."""

    case: Described
    version: int | None
    verdicts: tuple[Verdict, ...]


def rows(verdicts: Iterable[Verdict]) -> list[Row]:
    """Return the drivers' verdicts side by side, in the order of the cases."""
    found: dict[tuple[str, int | None], list[Verdict]] = {}
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
    table = [["case", *total]]
    table += [
        [_title(row.case, row.version), *(_MARKS[each.outcome] for each in row.verdicts)] for row in rows(verdicts)
    ]
    reasons = [
        f"{verdict.driver}: {_title(verdict.case, verdict.version)} {verdict.outcome}: {verdict.why}"
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
            **({} if verdict.version is None else {"version": verdict.version}),
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
                name=_title(verdict.case, verdict.version),
                time=f"{verdict.seconds:.3f}",
            )
            if verdict.outcome != "passed":
                element = "failure" if verdict.outcome == "failed" else "skipped"
                ElementTree.SubElement(case, element, message=_printable(verdict.why)).text = verdict.case.says
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def html(verdicts: Sequence[Verdict], heading: str, engine: str) -> str:
    """Return one page without anything from elsewhere. engine: what it calls itself."""
    template = Environment(autoescape=True).from_string(
        files("pluginkit.conform").joinpath("page.html").read_text(encoding="utf-8")
    )
    areas: dict[str, list[Row]] = {}
    for row in rows(verdicts):
        areas.setdefault(row.case.area, []).append(row)
    return template.render(areas=areas, counts=counts(verdicts), heading=heading, engine=engine, marks=_MARKS)


def written(
    verdicts: Sequence[Verdict],
    heading: str,
    engine: str,
    *,
    junit_to: Path | None,
    html_to: Path | None,
    plainly: bool,
) -> str:
    """JUnit's XML and the page are where they are wanted; return the text, or JSON.

    Raises: PluginError: one of them cannot be written.
    """
    for path, content in ((junit_to, junit(verdicts)), (html_to, html(verdicts, heading, engine).encode())):
        if path is not None:
            try:
                path.write_bytes(content)
            except OSError as exc:
                raise PluginError(f"cannot write {path}: {exc.strerror}") from exc
    return as_json(plain(verdicts)) if plainly else text(verdicts)


def _title(case: Described, version: int | None) -> str:
    return case.id if version is None else f"{case.id} v{version}"


def _printable(said: str) -> str:
    """Return what XML may hold of a text: a reason can repeat bytes of a packet."""
    return "".join(letter if letter.isprintable() else " " for letter in said)
