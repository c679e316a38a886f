"""The `-o` options of a volume: one table, from which parsing, errors and docs/options-pyvol.md come."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import msgspec

from pluginkit.errors import BadRequest

DEFAULT_SIZE_BYTES = 1 << 30
DEFAULT_FS = "ext4"
# Below, mke2fs makes a filesystem without a journal.
MIN_SIZE_BYTES = {"ext4": 8 << 20}

_BLOCK_BYTES = 4096
_UNITS = "KMGTP"
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgtp])?i?b?)", re.ASCII | re.IGNORECASE)


class Loop(msgspec.Struct, frozen=True, tag="loop", tag_field="backend"):
    """The options of a volume that is a filesystem of a fixed size in a file."""

    size: int
    fs: str


class Bind(msgspec.Struct, frozen=True, tag="bind", tag_field="backend"):
    """The options of a volume that is a directory of the host. source: an absolute path without '..'."""

    source: str


@dataclass(frozen=True)
class Option:
    """One row: its key on the command line, the backends that have it, its parser, and what it accepts and does."""

    key: str
    backends: tuple[str, ...]
    parse: Callable[[str], Any]
    accepts: str
    default: str
    help: str


def parse_size(text: str) -> int:
    """Return the bytes that `text` says, rounded up to whole blocks; every unit is a power of 1024, as with Docker.

    Raises: ValueError. Source: docker/go-units RAMInBytes.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    number, unit = found.groups()
    scale = 1024 ** (_UNITS.index(unit.upper()) + 1) if unit else 1
    # In integers: a float cannot hold every size above 8 PiB.
    whole, _, fraction = number.partition(".")
    size = int(whole) * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)
    if size >= 1 << 63:
        raise ValueError(text)
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def format_size(size: int) -> str:
    """Return `size` in bytes as `parse_size` reads it, in the largest unit that gives a whole number."""
    for exponent in range(len(_UNITS), 0, -1):
        if size and size % 1024**exponent == 0:
            return f"{size // 1024**exponent}{_UNITS[exponent - 1]}iB"
    return f"{size}B"


def parse_directory(text: str) -> str:
    """Return `text`, an absolute path, without doubled or trailing slashes.

    Raises: ValueError.
    """
    path = PurePosixPath(text)
    if not text.startswith("/") or ".." in path.parts or "\0" in text or len(text.encode()) >= 4096:
        raise ValueError(text)
    return "/" + "/".join(path.parts[1:])


def _one_of(*values: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in values:
            raise ValueError(text)
        return text

    return parse


OPTIONS = (
    Option(
        "backend",
        ("loop", "bind"),
        _one_of("loop", "bind"),
        "loop or bind",
        "loop",
        "`loop`: a filesystem of a fixed size in a file. `bind`: a directory of the host.",
    ),
    Option(
        "size",
        ("loop",),
        parse_size,
        "a number of bytes or with a unit: 64M, 1.5G, 10GiB; K, M, G, T and P are powers of 1024; at least 8M",
        "`--default-size` of `pyvol serve`: 1GiB",
        "Size of the filesystem: the most that the volume takes of the host's disk.",
    ),
    Option("fs", ("loop",), _one_of(*MIN_SIZE_BYTES), "ext4", DEFAULT_FS, "Kind of the filesystem."),
    Option(
        "source",
        ("bind",),
        parse_directory,
        "an absolute path without '..'",
        "none: it must be given",
        "The directory, which must exist and lie below a `--bind-root` of `pyvol serve`.",
    ),
)

_BY_KEY = {option.key: option for option in OPTIONS}


def parse_options(given: Mapping[str, str], default_size: int) -> Loop | Bind:
    """Return the options of a volume.

    Raises: BadRequest: an unknown key, with the nearest known one; a value that the key does not accept; keys that do
    not go together.
    """
    values = {key: _parse(_known(key), text) for key, text in given.items()}
    backend = values.pop("backend", "loop")
    for key in values:
        if backend not in _BY_KEY[key].backends:
            takes = ", ".join(option.key for option in OPTIONS if backend in option.backends)
            raise BadRequest(f"cannot use -o {key}={given[key]} with backend={backend}, which takes {takes}")
    if backend == "bind":
        if "source" not in values:
            raise BadRequest("cannot use -o backend=bind without -o source=/path, the directory to mount")
        return Bind(**values)
    loop = Loop(**{"size": default_size, "fs": DEFAULT_FS, **values})
    if loop.size < MIN_SIZE_BYTES[loop.fs]:
        least = format_size(MIN_SIZE_BYTES[loop.fs])
        raise BadRequest(f"cannot use -o size={given.get('size', loop.size)}: fs={loop.fs} needs at least {least}")
    return loop


def shown(options: Loop | Bind) -> dict[str, str]:
    """Return `options` as a user would give them with -o."""
    match options:
        case Loop():
            return {"backend": "loop", "size": format_size(options.size), "fs": options.fs}
        case Bind():
            return {"backend": "bind", "source": options.source}


def differing(one: Loop | Bind, other: Loop | Bind) -> list[str]:
    """Return the keys of which `one` and `other` have different values, in the order of the table."""
    left, right = shown(one), shown(other)
    return [option.key for option in OPTIONS if left.get(option.key) != right.get(option.key)]


def _known(key: str) -> Option:
    option = _BY_KEY.get(key)
    if option is None:
        near = difflib.get_close_matches(key, _BY_KEY, n=1, cutoff=0.0)
        raise BadRequest(f"cannot use -o {key[:80]}: there is no such option; the nearest is {near[0]}")
    return option


def _parse(option: Option, text: str) -> Any:
    try:
        return option.parse(text)
    except ValueError as exc:
        raise BadRequest(f"cannot use -o {option.key}={text[:80]}: it takes {option.accepts}") from exc


def describe_options() -> str:
    """Return the table as Markdown, one row an option."""
    rows = ["| option | backend | accepts | default | meaning |", "|---|---|---|---|---|"]
    for option in OPTIONS:
        backends = ", ".join(option.backends)
        rows.append(f"| `{option.key}` | {backends} | {option.accepts} | {option.default} | {option.help} |")
    return "\n".join(rows) + "\n"
