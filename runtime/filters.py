"""The `filters` of a list or prune request. Source: moby api/types/filters."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from runtime.errors import BadParameter


@dataclass(frozen=True)
class Filters:
    """Accepted values by filter name."""

    wanted: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> Filters:
        """Return the filters of a query: {"name": ["a"]}, or {"name": {"a": true}} as older clients write.

        Raises: BadParameter.
        """
        try:
            content = json.loads(text or "{}")
            return cls({str(name): tuple(map(str, values)) for name, values in content.items()})
        except (ValueError, AttributeError, TypeError) as exc:
            raise BadParameter(f"cannot read filters {text!r}: {exc}; send an object of lists") from exc

    def check(self, purpose: str, known: Iterable[str]) -> None:
        """Every filter is one of `known`.

        Raises: BadParameter.
        """
        if strange := sorted(set(self.wanted) - set(known)):
            raise BadParameter(f"cannot {purpose}: invalid filter '{strange[0]}'; use {', '.join(known)}")

    def some(self, name: str, fits: Callable[[str], bool]) -> bool:
        """Return whether one of the values fits, or none was given."""
        values = self.wanted.get(name)
        return not values or any(map(fits, values))

    def names(self, *names: str) -> bool:
        """Return whether one of the values of `name` is found in one of the names, as a regular expression."""

        def found(value: str) -> bool:
            with suppress(re.error):
                return any(re.search(value, name) for name in names)
            return value in names

        return self.some("name", found)

    def labels(self, labels: dict[str, str]) -> bool:
        """Return whether `labels` has every `label` and none of `label!`, each a key or key=value."""

        def has(wish: str) -> bool:
            key, equals, value = wish.partition("=")
            return key in labels and (not equals or labels[key] == value)

        return all(map(has, self.wanted.get("label", ()))) and not any(map(has, self.wanted.get("label!", ())))
