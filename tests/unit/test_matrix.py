"""The page about what was run where says what pytest has written down."""

from __future__ import annotations

import re
from pathlib import Path

from integration.lab.matrix import table

ROOT = Path(__file__).parents[2]
JUNIT = """<?xml version="1.0"?><testsuites><testsuite name="pytest" timestamp="{began}T10:00:00">
<testcase classname="integration.test_publish" name="test_a[x]" time="1"/>
<testcase classname="integration.test_publish" name="test_b" time="1">{b}</testcase>
</testsuite></testsuites>
"""
FAILURE = '<failure message="no">no</failure>'


def row(text: str, file: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(f"| {file} |")]
    return [entry.strip() for entry in line.split("|")[2:-1]]


def test_each_cell_is_what_was_seen_last(tmp_path: Path) -> None:
    (tmp_path / "docker-20.10_legacy.xml").write_text(JUNIT.format(began="2026-01-01", b=FAILURE))
    (tmp_path / "docker-20.10_legacy_again.xml").write_text(JUNIT.format(began="2026-01-02", b=""))
    (tmp_path / "docker-28.5_managed.xml").write_text(JUNIT.format(began="2026-01-03", b=FAILURE))
    text = table(["test_publish.py", "test_managed.py"], tmp_path)
    assert row(text, "tests")[:2] == ["docker-20.10 legacy", "docker-20.10 managed"]
    assert row(text, "`test_publish.py`") == ["2", "", "", "", "", "**1 of 2**", "", ""]
    assert row(text, "`test_managed.py`") == ["–", "", "–", "", "–", "", "–", ""]  # noqa: RUF001
    assert row(text, "last run") == ["2026-01-02", "", "", "", "", "2026-01-03", "", ""]


def test_the_page_names_tests_that_there_are() -> None:
    page = (ROOT / "docs" / "matrix.md").read_text()
    named = re.findall(r"^\| `(test_\w+\.py)` \|", page, re.MULTILINE)
    assert named
    assert [name for name in named if not (ROOT / "integration" / name).is_file()] == []
