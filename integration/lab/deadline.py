"""Waiting for a condition, never for a while."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(what: str, ask: Callable[[], T], timeout_s: float = 10.0, every_s: float = 0.05) -> T:
    """The first true answer of `ask` is returned.

    Raises: TimeoutError naming `what` and the last answer or exception, when no answer was true in time.
    """
    deadline = time.monotonic() + timeout_s
    last: object = None
    while True:
        try:
            answer = ask()
            if answer:
                return answer
            last = answer
        except (OSError, AssertionError) as error:
            last = error
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s; last answer: {last!r}")
        time.sleep(every_s)
