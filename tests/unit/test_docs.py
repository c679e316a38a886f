"""What the documents say can be checked: the tests that they name are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = {path.name: path for folder in ("tests", "integration") for path in (ROOT / folder).rglob("test_*.py")}
# A test, or another one of the file that was named last.
NAMED = re.compile(r"`(?:(?:tests|integration)/[a-z/]*)?(test_\w+\.py)?(?:::(test_\w+))?`")


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_the_tests_that_a_document_names_are_there(document: Path) -> None:
    file, missing = "", []
    for match in NAMED.finditer(document.read_text(encoding="utf-8")):
        file = match[1] or file
        if file and (file not in TESTS or (match[2] and f"def {match[2]}(" not in TESTS[file].read_text())):
            missing.append(f"{file}::{match[2]}")
    assert missing == []


def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """A link that leads nowhere is a warning, and a warning an error."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", ROOT / "docs", tmp_path / "site"]
    done = subprocess.run([*command, "-d", tmp_path / "read"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(list((ROOT / "docs").glob("*.md")))
    loaded = [re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]*)|<link[^>]*\shref=\"([^\"]*)", page.read_text())
              for page in pages]  # fmt: skip
    assert [found for page in loaded for pair in page for found in pair if "//" in found] == []
