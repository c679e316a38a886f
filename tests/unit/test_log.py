"""The log: one line a record, whatever the message holds."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from pluginkit import errors, log
from pluginkit.errors import Conflict


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


@pytest.fixture
def logger(stderr: io.StringIO) -> Iterator[logging.Logger]:
    root = logging.getLogger()
    level = root.level
    log.configure("info", journald=False)
    [ours] = root.handlers
    yield logging.getLogger("pynet.test")
    root.removeHandler(ours)
    root.setLevel(level)


def test_a_record_is_time_level_logger_message(logger, stderr) -> None:
    logger.info("network %s created", "n1")
    logger.debug("not at this level")
    line = stderr.getvalue()
    assert line.count("\n") == 1
    time, level, name, *message = line.split()
    assert (len(time), time[10]) == (19, "T")
    assert (level, name, " ".join(message)) == ("info", "pynet.test", "network n1 created")


def test_the_request_id_is_in_the_line_while_a_request_is_answered(logger, stderr) -> None:
    token = log.request_id.set("0badcafe")
    logger.warning("inside")
    log.request_id.reset(token)
    logger.warning("outside")
    inside, outside = stderr.getvalue().splitlines()
    assert "request=0badcafe inside" in inside
    assert "request" not in outside


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\x1b[31mb", "a\x00b", "a\u2028b", "a\ud800b"], ids=ascii)
@pytest.mark.parametrize("bug", [False, True], ids=["plain", "with traceback"])
def test_a_message_cannot_forge_a_line(text: str, bug: bool) -> None:
    exc_info = (ValueError, ValueError("bug"), None) if bug else None
    record = logging.LogRecord("pyvol", logging.WARNING, __file__, 1, "name %s end", (text,), exc_info)
    first, *rest = log.LineFormatter(journald=False).format(record).splitlines()
    assert first.isascii()
    assert first.isprintable()
    assert first.endswith(" end")
    assert bool(rest) is bug


@pytest.mark.parametrize(
    ("level", "prefix"),
    [(logging.DEBUG, "<7>"), (logging.INFO, "<6>"), (logging.WARNING, "<4>"), (logging.ERROR, "<3>")],
)
def test_journald_gets_a_priority_in_place_of_the_time(level: int, prefix: str) -> None:
    record = logging.LogRecord("pyvol", level, __file__, 1, "mounted", None, None)
    name = logging.getLevelName(level).lower()
    assert log.LineFormatter(journald=True).format(record) == f"{prefix} {name} pyvol mounted"


@pytest.mark.parametrize(
    ("exc", "traceback"),
    [
        (Conflict("cannot take port 80: held by e1"), False),
        (ExceptionGroup("g", [Conflict("cannot take a"), Conflict("cannot take b")]), False),
        (ValueError("a bug"), True),
        (ExceptionGroup("g", [Conflict("cannot take a"), ValueError("a bug")]), True),
    ],
)
def test_a_bug_leaves_a_traceback_and_an_expected_error_a_line(logger, stderr, exc: Exception, traceback: bool) -> None:
    log.failure(logger, exc)
    first, *rest = stderr.getvalue().splitlines()
    assert f"error pynet.test {errors.describe(exc)}" in first
    assert bool(rest) is traceback
