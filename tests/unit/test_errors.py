"""The error tree: what is told to the engine, and with which status."""

from __future__ import annotations

import errno

import pytest

from pluginkit import errors
from pluginkit.errors import (
    BadRequest,
    CommandError,
    Conflict,
    Exhausted,
    KernelError,
    NotFound,
    PluginError,
    StateError,
    Unavailable,
)

EVERY_ERROR: tuple[PluginError, ...] = (
    BadRequest("cannot read it"),
    NotFound("cannot find it"),
    Conflict("cannot take it"),
    Exhausted("cannot get one"),
    Unavailable("cannot do it now"),
    KernelError("create", "bridge pn-1", errno.EEXIST),
    CommandError(["nft", "-f", "-"], "syntax error (exit code 1)", 1),
    StateError("cannot use it"),
)


@pytest.mark.parametrize("exc", EVERY_ERROR, ids=lambda exc: type(exc).__name__)
def test_only_a_bad_request_is_400_and_nothing_is_404(exc: PluginError) -> None:
    assert errors.http_status(exc) == (400 if isinstance(exc, BadRequest) else 500)
    assert errors.is_expected(exc)
    assert errors.describe(exc).startswith("cannot ")


@pytest.mark.parametrize(
    "exc", [ValueError("x"), KeyError("x"), OSError(5, "I/O"), ExceptionGroup("g", [ValueError()])]
)
def test_everything_else_is_a_bug(exc: Exception) -> None:
    assert not errors.is_expected(exc)
    assert errors.http_status(exc) == 500


@pytest.mark.parametrize(
    ("code", "hint", "text"),
    [
        (errno.EEXIST, "", "cannot create bridge b: File exists (EEXIST)"),
        (errno.ENODEV, "load it", "cannot create bridge b: No such device (ENODEV); load it"),
        (0, "", "cannot create bridge b: unknown reason"),
        (99999, "", "cannot create bridge b: Unknown error 99999 (99999)"),
    ],
)
def test_a_kernel_error_names_operation_object_and_errno(code: int, hint: str, text: str) -> None:
    exc = KernelError("create", "bridge b", code, hint)
    assert str(exc) == text
    assert (exc.operation, exc.subject, exc.code) == ("create", "bridge b", code)


def test_a_group_is_described_by_its_leaves() -> None:
    inner = ExceptionGroup("inner", [Conflict("cannot take b"), Unavailable("cannot wait")])
    group = ExceptionGroup("outer", [NotFound("cannot find a"), inner])
    assert errors.describe(group) == "cannot find a; cannot take b; cannot wait"
    assert errors.is_expected(group)
    assert errors.http_status(group) == 500


def test_one_bug_among_expected_errors_makes_the_group_a_bug() -> None:
    assert not errors.is_expected(ExceptionGroup("g", [Conflict("cannot"), ExceptionGroup("h", [ValueError("bug")])]))


def test_an_exception_without_text_is_described_by_its_name() -> None:
    assert errors.describe(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_a_conflict_names_its_holder() -> None:
    assert Conflict("cannot take 8080", holder="endpoint e").holder == "endpoint e"
    assert Conflict("cannot take 8080").holder == ""
