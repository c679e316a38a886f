"""Requests as an engine sends them, and what becomes of them in the hands of somebody who means ill. Seeded."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TRANSCRIPTS = Path(__file__).parent / "conformance" / "transcripts"
Body = dict[str, Any]


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


# Of each sort some: numbers at the edges, texts that are options, paths, shell words, formats, addresses that are none.
ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 65536, 2**31, 2**63, 2**64, -(2**63), 1e308, 0.5),
    *("", " ", "\0", "a\0b", "\n", "\x1b[31m", "a" * 64, "a" * 300, "a" * 100_000, "\u202e", "🐳" * 40, "\ud800"),
    *(".", "..", "../../../../tmp/hostile", "/etc/passwd", "/proc/self/mem", "//", "a/b", "~root", "%2e%2e%2f"),
    *("-h", "--help", "-o", "; reboot", "$(reboot)", "`reboot`", "| cat", "' OR 1=1 --", "%s%n", "{{.}}", "*", "?"),
    *("0.0.0.0", "0.0.0.0/0", "::/0", "10.0.0.1/33", "10.9.0.256/24", "fe80::1%lo", "127.0.0.1/8", "255.255.255.255"),
    *("224.0.0.1/4", "::ffff:10.9.0.1", "1", "010.9.0.1/24", "10.9.0.0/24 ", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"),
    *(
        "lo",
        "eth0",
        "all",
        "default",
        "pn-00000000",
        "pynet",
        "PYNET",
        "docker0",
        "1e9",
        "0x10",
        "9" * 400,
        "-5",
        "NaN",
    ),
    *([], {}, [None], [{}], {"": ""}, {"a": {"b": {"c": []}}}, [[]] * 50, list(range(3000)), _nested(400)),
)


def recorded(interface: str) -> dict[str, list[Body]]:
    """Return the bodies that dockerds were recorded to send to methods of the interface, such as NetworkDriver."""
    found: dict[str, dict[str, Body]] = {}
    for path in sorted(TRANSCRIPTS.glob("*/*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            exchange = json.loads(line)
            method, body = exchange["path"].lstrip("/"), exchange["request"]
            if method.startswith(f"{interface}.") and body:
                found.setdefault(method, {})[json.dumps(body, sort_keys=True)] = body
    return {method: list(bodies.values()) for method, bodies in found.items()}


def altered(body: Body, chance: random.Random) -> Body:
    """Return the body with up to three of its values, keys or lists made odd."""
    body = copy.deepcopy(body)
    for _ in range(chance.randint(1, 3)):
        places = list(_places(body))
        if places:
            holder, key = chance.choice(places)
            _alter(holder, key, chance)
    return body


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    entries: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield value, key
        yield from _places(inner)


def _alter(holder: Any, key: Any, chance: random.Random) -> None:
    match chance.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[str(chance.choice(ODD))[:300]] = holder.pop(key)
        case 2 if isinstance(holder, list):
            holder.extend(copy.deepcopy(holder) * chance.randint(1, 3))
        case 3 if isinstance(holder[key], str) and holder[key]:
            # Nearly right is what checks forget.
            text, place = holder[key], chance.randrange(len(holder[key]))
            holder[key] = text[:place] + chance.choice("\0/.:-9 \nü") + text[place + 1 :]
        case _:
            holder[key] = copy.deepcopy(chance.choice(ODD))
