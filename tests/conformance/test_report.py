"""What `pynet conform` writes of verdicts: a table, JSON, JUnit's XML, a page for a browser."""

import re
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from netplugin.cli import app
from netplugin.conform.catalogue import CASES
from pluginkit.conform import report
from pluginkit.conform.catalogue import chosen
from pluginkit.conform.verdict import Verdict
from pluginkit.errors import NotFound

FIRST, SECOND = CASES[:2]
VERDICTS = [
    Verdict("bridge", FIRST, 4, "passed", "", 0.25),
    Verdict("bridge", SECOND, 4, "failed", "<b>\x00 & so on", 0.5),
    Verdict("pynet", FIRST, 4, "passed", "", 0.25),
    Verdict("pynet", SECOND, 4, "not run", "nobody listens", 0.0),
]


def test_verdicts_stand_side_by_side() -> None:
    lines = report.text(VERDICTS).splitlines()
    assert lines[0].split() == ["case", "bridge", "pynet"]
    assert lines[1].split() == [FIRST.id, "v4", "ok", "ok"]
    assert lines[2].split() == [SECOND.id, "v4", "FAILED", "-"]
    assert lines[-2:] == ["bridge: 1 passed, 1 failed, 0 not run", "pynet: 1 passed, 0 failed, 1 not run"]


def test_ci_servers_read_them() -> None:
    bridge, pynet = ElementTree.fromstring(report.junit(VERDICTS))
    assert (bridge.get("name"), bridge.get("tests"), bridge.get("failures"), bridge.get("skipped")) == (
        *("bridge", "2", "1", "0"),
    )
    assert (pynet.get("failures"), pynet.get("skipped")) == ("0", "1")
    failure = bridge.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "<b>  & so on"


def test_the_page_is_whole_in_itself_and_says_nothing_as_html_that_a_packet_said() -> None:
    page = report.html(VERDICTS, "Packets", "Docker <Engine>")
    assert re.findall(r"(?:src|href)\s*=|url\(|@import|https?:", page) == []
    assert "&lt;b&gt;" in page
    assert "Docker &lt;Engine&gt;" in page
    assert page.count('class="verdict failed"') == 1


def test_other_programs_read_them() -> None:
    told = report.plain(VERDICTS)
    assert [(each["driver"], each["case"], each["outcome"]) for each in told][1] == ("bridge", SECOND.id, "failed")


def test_cases_are_chosen_by_name() -> None:
    assert {case.area for case in chosen(CASES, ["tcp-*"])} == {"TCP"}
    assert chosen(CASES, [SECOND.id, FIRST.id]) == (FIRST, SECOND)
    with pytest.raises(NotFound, match="no-such-case"):
        chosen(CASES, ["tcp-*", "no-such-case"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--case", "no-such"), "pynet: cannot play no-such: there is no such case; docs/conformance.md lists them\n"),
        (
            ("--engine", "/nonexistent"),
            "pynet: cannot ask the engine on /nonexistent: [Errno 2] No such file or directory\n",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(words: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, ["conform", "--driver", "bridge", *words])
    assert (done.exit_code, done.stderr) == (1, said)
