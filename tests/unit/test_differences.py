"""The known differences between engines and forms name tests that there are, and the page about them is of today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from integration.lab import docker_suites
from integration.lab.differences import DIFFERENCES, Difference, difference, table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("row", DIFFERENCES, ids=lambda row: row.tests[0])
def test_each_row_is_about_tests_that_there_are(row: Difference) -> None:
    for name in row.tests:
        file, _, function = name.partition("::")
        text = (ROOT / "integration" / file).read_text()
        assert function == "*" or re.search(rf"^def {function.partition('[')[0]}\(", text, re.MULTILINE), name
    assert row.reason
    assert row.source


@pytest.mark.parametrize("suite", docker_suites.SUITES)
def test_each_case_of_dockers_has_a_test_of_ours_or_a_reason(suite: str) -> None:
    for row in docker_suites.SUITES[suite]:
        assert bool(row.ours) != bool(row.why), row
        for name in row.ours:
            file, _, function = name.partition("::")
            text = (ROOT / "integration" / file).read_text()
            assert re.search(rf"^def {function}\(", text, re.MULTILINE), name


def test_a_row_is_found_by_engine_form_and_name() -> None:
    assert difference("test_up_down.py::test_anything[x]", "docker-20.10", "managed") is not None
    assert difference("test_up_down.py::test_anything[x]", "docker-20.10", "legacy") is None
    assert difference("test_publish.py::test_anything", "docker-20.10", "managed") is None


def test_the_page_is_of_today() -> None:
    assert table() in (ROOT / "docs" / "engines.md").read_text(), "run `make docs`"
    assert docker_suites.table() in (ROOT / "docs" / "docker-suites.md").read_text(), "run `make docs`"


def test_no_test_asks_for_a_version() -> None:
    asking = re.compile(r"\b(if|skipif)\b.*(kind\.name|drivers\.form|Server\.Version)")
    found = [path.name for path in (ROOT / "integration").glob("test_*.py") if asking.search(path.read_text())]
    assert found == []
