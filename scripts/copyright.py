"""Prints the copyright file of the Debian package: our own, and that of each distribution in the folder.

copyright.py FOLDER   as `pip install --target` leaves it
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

OURS = "pynet-pyvol"
# What Debian has on every machine is named, not repeated: a word of the text, and where it lies.
SHARED = {
    "Apache License\n": "Apache-2.0",
    "GNU GENERAL PUBLIC LICENSE\n                       Version 2": "GPL-2",
}
POINTER = "The full text of the {0} license is in /usr/share/common-licenses/{0}.\n"


def license_texts(distribution: Distribution) -> Iterator[str]:
    """Yield the texts that its wheel came with, the well-known ones as a pointer."""
    for file in sorted(Path(str(distribution.locate_file(""))).glob(f"{folder_of(distribution)}/**/*")):
        if file.is_file() and file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS")):
            text = file.read_text(encoding="utf-8", errors="replace")
            known = [name for words, name in SHARED.items() if words in text[:400]]
            yield POINTER.format(known[0]) if known else text.strip() + "\n"


def folder_of(distribution: Distribution) -> str:
    """Return the name of its folder of metadata."""
    return Path(str(getattr(distribution, "_path"))).name  # noqa: B009 - the only place that knows it


def main() -> None:
    """The file is on stdout."""
    parts = [
        f"{OURS}\n\nCopyright: the authors of pynet and pyvol\nLicense: Apache-2.0\n\n" + POINTER.format("Apache-2.0"),
        "The package brings these libraries along in /usr/lib/pynet-pyvol, each under its own license.\n",
    ]
    for found in sorted(distributions(path=[sys.argv[1]]), key=lambda each: each.metadata["Name"].lower()):
        name, meta = found.metadata["Name"], found.metadata
        if name != OURS:
            short = meta["License-Expression"] or (meta["License"] or "").strip().split("\n")[0] or "as below"
            head = f"{name} {found.version}\n\nLicense: {short}\n"
            parts.append("\n".join([head, *license_texts(found)]))
    print(("\n" + "-" * 72 + "\n\n").join(parts), end="")


if __name__ == "__main__":
    main()
