"""What commands print without what differs from run to run, and what two runs say apart."""

import difflib
import re
from dataclasses import dataclass

# In this order: the longer ones first.
PLACES = (
    (r"\b(sha256:)?[0-9a-f]{64}\b", "ID"),
    (r"\b[0-9a-f]{12}\b", "SHORT-ID"),
    (r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", "MAC"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| [+-]\d{4} \w+|[+-]\d\d:\d\d)?", "TIME"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d\b", "TIME"),
    (r"\b[A-Z][a-z]{2} [ \d]\d \d\d:\d\d\b", "TIME"),
    (r"\b(?:Less than a|\d+) (?:second|minute)s?(?= ago|\b)|\bAbout a minute", "A-WHILE"),
    # Both hosts give addresses of their pools as they see fit.
    (r"\b(?:10|172)\.\d+\.\d+\.\d+\b", "ADDRESS"),
    (r"(?<=ADDRESS):\d{5}\b", ":PORT"),
    (r"\bfe80::[0-9a-f:]+", "ADDRESS6"),
    (r'"Pid": \d+', '"Pid": PID'),
    (r"(?<=the nearest is )\w+", "OPTION"),
    (r"(?<=\S) {2,}", "  "),  # columns are as wide as what they hold
    (r"(?<=/)(?:[A-Z2-7]{26}|[0-9a-f]{24})\b", "LAYER"),
)


def normal(text: str, root: str) -> str:
    """Return the text as it would be in another run, on a host whose folder is not `root`."""
    text = text.replace(root, "/ROOT")
    for pattern, name in PLACES:
        text = re.sub(pattern, name, text)
    return "\n".join(line.rstrip() for line in text.replace("\r", "").splitlines())


@dataclass(frozen=True, slots=True)
class Difference:
    """What a command prints: `docker` on dockerd alone, `pyrun` on pyrun alone, line by line."""

    command: str
    docker: tuple[str, ...]
    pyrun: tuple[str, ...]


def apart(command: str, docker: list[str], pyrun: list[str]) -> Difference | None:
    """What only one of them says, or None."""
    lines = [*difflib.ndiff(docker, pyrun)]
    only = {mark: tuple(line[2:] for line in lines if line.startswith(mark)) for mark in "-+"}
    return Difference(command, only["-"], only["+"]) if only["-"] or only["+"] else None


def parse_differences(text: str) -> list[Difference]:
    """Return those that are listed: `# reason`, for all `$ command` below it, with lines of dockerd (-) and pyrun (+).

    Raises: AssertionError: one has no reason.
    """
    found: list[Difference] = []
    reason = ""
    for line in filter(None, text.splitlines()):
        mark, _, rest = line.partition(" ")
        if mark == "#":
            reason = rest
        elif mark == "$":
            assert reason, f"{rest} has no reason"
            found.append(Difference(rest, (), ()))
        else:
            last = found.pop()
            more = {"-": ((*last.docker, rest), last.pyrun), "+": (last.docker, (*last.pyrun, rest))}[mark]
            found.append(Difference(last.command, *more))
    return found
