"""What is typed, as the Engine API wants it, and what it answers, as rows. Pure."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = dict[str, str]


class Misunderstood(Exception):
    """What was typed is none of what the command takes."""


_FIELD = re.compile(r"\{\{\s*(json\s+)?\.([\w.]*)\s*\}\}")


def pairs(words: Iterable[str]) -> dict[str, str]:
    """Return KEY=VALUE… as a mapping; without a value it is empty."""
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def filters(words: Iterable[str]) -> str | None:
    """Return KEY=VALUE… as the parameter `filters`; None: there are none."""
    found: dict[str, list[str]] = {}
    for word in words:
        key, _, value = word.partition("=")
        found.setdefault(key, []).append(value)
    return json.dumps(found) if found else None


def port_bindings(words: Iterable[str]) -> dict[str, list[dict[str, str]]]:
    """Return [[ADDRESS:]PORT:]PORT[/PROTOCOL]… as PortBindings.

    Raises: Misunderstood: it is none of these.
    """
    found: dict[str, list[dict[str, str]]] = {}
    for word in words:
        match = re.fullmatch(r"(?:(?:(\[[^]]+\]|[^:]*):)?(\d*):)?(\d+)(?:/(tcp|udp|sctp))?", word)
        if not match:
            raise Misunderstood(f"cannot publish {word}: give [[ADDRESS:]PORT:]PORT[/tcp|udp|sctp]")
        address, outside, inside, protocol = (part or "" for part in match.groups())
        found.setdefault(f"{inside}/{protocol or 'tcp'}", []).append(
            {"HostIp": address.strip("[]"), "HostPort": outside}
        )
    return found


def container(image: str, command: Sequence[str], *, env: Iterable[str], volumes: Iterable[str],
              ports: Iterable[str], network: str, terminal: bool, stdin: bool, attached: bool,
              remove: bool) -> dict[str, Any]:  # fmt: skip
    """Return the body of `containers/create`.

    Raises: Misunderstood: a word cannot be understood.
    """
    bindings = port_bindings(ports)
    named = [os.path.abspath(word) if word.startswith(".") else word for word in volumes if ":" in word]  # noqa: PTH100
    host = {"Binds": named, "PortBindings": bindings, "NetworkMode": network or "default", "AutoRemove": remove}
    return {
        "Image": image, "Cmd": list(command) or None, "Tty": terminal, "OpenStdin": stdin,
        "StdinOnce": stdin and attached, "AttachStdin": stdin and attached, "AttachStdout": attached,
        "AttachStderr": attached, "ExposedPorts": {port: {} for port in bindings},
        # A name alone is this process's own value, as with docker.
        "Env": [word if "=" in word else f"{word}={os.environ[word]}" for word in env
                if "=" in word or word in os.environ],
        "Volumes": {word: {} for word in volumes if ":" not in word}, "HostConfig": host,
    }  # fmt: skip


def start_status(message: str) -> int:
    """Return docker's exit status for a container that could not be started for this reason."""
    if "executable file not found" in message or "no such file or directory" in message:
        return 127
    return 126 if "permission denied" in message else 125


def fill_in(template: str, found: Mapping[str, Any]) -> str:
    """Return the template with its `{{.Name}}`, `{{.Name.Name}}` and `{{json .Name}}` filled in.

    Raises: Misunderstood: it has something else of Go's templates, or names what is not there.
    """

    def value(match: re.Match[str]) -> str:
        each: Any = found
        for word in filter(None, match[2].split(".")):
            if not isinstance(each, Mapping) or word not in each:
                raise Misunderstood(f"cannot print {match[0]}: there is no {word}")
            each = each[word]
        return each if isinstance(each, str) and not match[1] else json.dumps(each)

    filled = _FIELD.sub(value, template)
    if "{{" in _FIELD.sub("", template):
        raise Misunderstood(f"cannot print {template}: pyrun understands {{{{.Name}}}} and {{{{json .Name}}}} alone")
    return filled


def table(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Return the rows as lines below their headings."""
    lines = [[name.upper() for name in columns], *([row[name] for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["   ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def ports(published: Iterable[Mapping[str, Any]]) -> str:
    """Return what `ps` shows of a container's ports."""
    shown = []
    for each in published:
        inside = f"{each['PrivatePort']}/{each['Type']}"
        address = str(each.get("IP") or "")
        address = f"[{address}]" if ":" in address else address
        shown.append(f"{address}:{each['PublicPort']}->{inside}" if each.get("PublicPort") else inside)
    return ", ".join(shown)
