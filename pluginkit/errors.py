"""The error tree.

PluginError                  the message starts with "cannot", names the object and the way out
├── BadRequest               undecodable or empty body, missing field, bad option        HTTP 400
├── NotFound                 the engine speaks of something that was never made here     HTTP 500
├── Conflict                 something else already has what was asked for               HTTP 500
├── Exhausted                nothing is left of a finite thing                           HTTP 500
├── Unavailable              not now: a lock, a full disk, a service that is down        HTTP 500
├── KernelError              the kernel refused an operation                             HTTP 500
├── CommandError             a helper program failed                                     HTTP 500
└── StateError               unreadable or newer records: refuse to start, touch nothing HTTP 500

HTTP 404 is never an error's status: to dockerd it means "method not implemented".
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence


class PluginError(Exception):
    """Something that the caller may be told in full."""

    http_status = 500


class BadRequest(PluginError):
    """The request itself is wrong; sending it again cannot help."""

    http_status = 400


class NotFound(PluginError):
    """The object is not known here."""


class Conflict(PluginError):
    """Somebody else holds what was asked for.

    holder: who, as an identifier of the same kind as the asker's; empty when it is not one of ours.
    """

    def __init__(self, message: str, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder


class Exhausted(PluginError):
    """A finite supply has run out."""


class Unavailable(PluginError):
    """The operation may succeed later without any change of the request."""


class KernelError(PluginError):
    """The kernel refused `operation` on `subject` with `code` (an errno)."""

    def __init__(self, operation: str, subject: str, code: int, hint: str = "") -> None:
        self.operation = operation
        self.subject = subject
        self.code = code
        name = errno.errorcode.get(code, str(code))
        reason = f"{os.strerror(code)} ({name})" if code else "unknown reason"
        super().__init__(f"cannot {operation} {subject}: {reason}" + (f"; {hint}" if hint else ""))


class CommandError(PluginError):
    """A helper program did not exit with 0 in time."""

    def __init__(self, argv: Sequence[str], reason: str, returncode: int | None) -> None:
        self.argv = tuple(argv)
        self.returncode = returncode
        super().__init__(f"cannot run {argv[0]}: {reason}")


class StateError(PluginError):
    """The records on disk cannot be trusted; nothing may be built on or swept by them."""


def describe(exc: BaseException) -> str:
    """Return one line of text for `exc`, the leaves of exception groups joined by '; '."""
    if isinstance(exc, BaseExceptionGroup):
        return "; ".join(describe(inner) for inner in exc.exceptions)
    return str(exc) or type(exc).__name__


def is_expected(exc: BaseException) -> bool:
    """Tell whether every leaf of `exc` is an error that the caller may be told in full."""
    if isinstance(exc, BaseExceptionGroup):
        return all(is_expected(inner) for inner in exc.exceptions)
    return isinstance(exc, PluginError)


def http_status(exc: BaseException) -> int:
    """Return the HTTP status of an answer about `exc`."""
    return exc.http_status if isinstance(exc, PluginError) else 500
