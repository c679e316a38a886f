"""A request to a plugin, and what a reference model says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Ask = Callable[[str, object], tuple[int, dict[str, Any]]]
OK, BAD, REFUSED = 200, 400, 500


def unchanged(_answer: Mapping[str, Any]) -> None:
    """The model is what it was."""


@dataclass(frozen=True)
class Step:
    """A request, the status that its answer has to have, and what a refusal has to say.

    then: the model has followed; called with the answer to a request that succeeded, of which it may assert more.
    removes: the IDs of what it takes away. If it is refused because something befell the plugin meanwhile, they may be
    gone all the same, at once or later: a removal that has begun is finished.
    """

    method: str
    body: Mapping[str, Any]
    status: int = OK
    says: str = ""
    then: Callable[[Mapping[str, Any]], None] = unchanged
    removes: frozenset[str] = frozenset()

    def take(self, ask: Ask) -> None:
        """The plugin has answered as the model says, and the model is after the step."""
        status, answer = ask(self.method, dict(self.body))
        self.judge(status, answer)

    def judge(self, status: int, answer: Mapping[str, Any]) -> None:
        """The same, of an answer that was had."""
        assert status == self.status, f"{self}: {status} {answer}"
        if status == OK:
            self.then(answer)
        else:
            assert str(answer["Err"]).startswith("cannot "), f"{self}: {answer}"
            assert self.says in str(answer["Err"]), f"{self}: {answer}"
