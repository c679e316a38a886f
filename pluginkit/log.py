"""One line a record on stderr, `key=value`, with the request's id, for people and for journald alike."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar

from pluginkit import errors

request_id: ContextVar[str] = ContextVar("request_id", default="")

# journald takes a syslog priority at the start of a line; on a terminal it would be noise.
_PRIORITY = {logging.DEBUG: "<7>", logging.INFO: "<6>", logging.WARNING: "<4>", logging.ERROR: "<3>"}


class LineFormatter(logging.Formatter):
    """Formats a record as `time level logger request=ID message`, with a traceback below it if there is one."""

    def __init__(self, *, journald: bool) -> None:
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%S")
        self._journald = journald

    def format(self, record: logging.LogRecord) -> str:
        """Return the whole text of `record`; control characters of its message are escaped."""
        request = request_id.get()
        parts = [
            f"{_PRIORITY.get(record.levelno, '')}" if self._journald else self.formatTime(record, self.datefmt),
            record.levelname.lower(),
            record.name,
            *([f"request={request}"] if request else []),
            record.getMessage().encode("unicode_escape").decode("ascii"),
        ]
        text = " ".join(part for part in parts if part)
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def configure(level: str, *, journald: bool) -> None:
    """Everything logged at `level` and above goes to stderr, a line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(journald=journald))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def failure(logger: logging.Logger, exc: Exception) -> None:
    """The error is in the log: one line if it is one of our own, with a traceback if it is a bug."""
    logger.error("%s", errors.describe(exc), exc_info=None if errors.is_expected(exc) else exc)
