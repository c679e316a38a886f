"""Tutorials as a reader follows them: the commands of a page, and what it says that they print.

In a block marked `console` a line that begins with a prompt, `$ ` or `NAME$ ` for one of several hosts, is a command;
the others are what it prints, where `...` stands for anything.
"""

import doctest
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "tutorials"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"([a-z]*)\$ (.*)")


@dataclass(frozen=True, slots=True)
class Step:
    """A command, the host where it is typed, "" where there is one alone, and all that it prints."""

    host: str
    command: str
    printed: str


def pages() -> list[Path]:
    """The tutorials in their order."""
    return sorted(FOLDER.glob("[0-9]*.md"))


def steps(page: str) -> Iterator[Step]:
    """The commands of a page, in its order."""
    for block in _BLOCK.finditer(page):
        host, command, printed = "", "", ""
        for line in block[1].splitlines():
            prompt = _PROMPT.fullmatch(line)
            if prompt:
                if command:
                    yield Step(host, command, printed)
                host, command, printed = prompt[1], prompt[2], ""
            else:
                printed += line + "\n"
        yield Step(host, command, printed)


def is_what_the_page_says(step: Step, printed: str) -> bool:
    """True when the command printed what the page says; how much space is between words does not matter."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(step.printed, printed, flags)
