"""The options of a volume as users would give them, and the table of all options as a page."""

from __future__ import annotations

from volplugin.options.parsing import Bind, Loop
from volplugin.options.table import LABELS, LOCAL_OPTIONS, OPTIONS


def shown(options: Loop | Bind) -> dict[str, str]:
    """Return `options` as a user would give them with -o; what is as it would be without is left out."""
    backend = "loop" if isinstance(options, Loop) else "bind"
    found = {"backend": backend}
    for option in OPTIONS[1:]:
        if backend in option.backends:
            value = getattr(options, option.attribute)
            if option.key == LABELS:
                found |= {f"label.{name}": text for name, text in value}
            elif value != option.unset:
                found[option.key] = option.shown(value)
    return found


def differing(one: Loop | Bind, other: Loop | Bind) -> list[str]:
    """Return the keys of which `one` and `other` have different values, in the order of the table."""
    left, right = shown(one), shown(other)
    order = [option.key for option in OPTIONS]
    keys = [key for key in {**left, **right} if left.get(key) != right.get(key)]
    return sorted(keys, key=lambda key: (order.index(key) if key in order else len(order), key))


def describe_options() -> str:
    """Return the table as Markdown, one row an option."""
    rows = ["| option | backend | accepts | default | `pyvol set` | meaning |", "|---|---|---|---|---|---|"]
    for option in (*OPTIONS, *LOCAL_OPTIONS):
        backends = ", ".join(option.backends)
        later = "yes" if option.later else "no"
        rows.append(f"| `{option.key}` | {backends} | {option.accepts} | {option.default} | {later} | {option.help} |")
    return "\n".join(rows) + "\n"
