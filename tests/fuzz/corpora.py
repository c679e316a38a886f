"""The corpus of a target: one file of JSON lines, each an input with its bytes as the letters of Latin-1."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"
# Enough that a short run begins where long ones have been; little enough to be read by people.
MAX_BYTES = 60_000


def path_of(target: str) -> Path:
    return FOLDER / f"{target}.jsonl"


def read(target: str) -> list[bytes]:
    path = path_of(target)
    return [json.loads(line).encode("latin-1") for line in path.read_text().splitlines()] if path.exists() else []


def spread(inputs: list[bytes], folder: Path) -> None:
    """Each input is a file of the folder, as the fuzzer wants them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(inputs):
        (folder / f"{number:05}").write_bytes(content)


def keep(target: str, folder: Path) -> None:
    """The corpus is what was found so far: the shortest of the folder's files."""
    lines = sorted({json.dumps(path.read_bytes().decode("latin-1")) for path in folder.iterdir()}, key=_length)
    kept, size = [], 0
    for line in lines:
        size += len(line) + 1
        if size > MAX_BYTES:
            break
        kept.append(line)
    path_of(target).write_text("".join(f"{line}\n" for line in sorted(kept)))


def _length(line: str) -> tuple[int, str]:
    return len(line), line
