"""The files of a volume as a plain tar archive, by GNU tar: with owners, modes, times, links, holes, ACLs and more.

What is unpacked may have been made by anybody. GNU tar refuses names with "..", and makes links that lead elsewhere
only when everything else is done; whatever else it has to say of an archive is a reason not to take it.

Source: tar(1).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from pluginkit import command
from pluginkit.errors import CommandError, PluginError
from volplugin.archive.progress import Bar

_PIECE = 1 << 20
_ALL_OF_IT = ("--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls")
_HARMLESS = ("--warning=no-timestamp", "--warning=no-unknown-keyword")
# Times that nobody can set, or that packing changes.
_PAX = "--pax-option=delete=atime,delete=ctime"


def pack(tree: Path, out: BinaryIO, bar: Bar) -> str:
    """The files below `tree` are in the archive; return its digest. Raises: CommandError; what `out` raises."""
    argv = ["tar", "--create", "--format=posix", _PAX, "--sparse", "--sort=name", *_ALL_OF_IT, "-C", str(tree), "."]
    digest = hashlib.sha256()
    with command.reading(argv) as packed:
        while piece := packed.read(_PIECE):
            out.write(piece)
            digest.update(piece)
            bar.advance(len(piece))
    return digest.hexdigest()


def unpack(source: BinaryIO, tree: Path, bar: Bar) -> str:
    """The files of the archive are below `tree`; return its digest.

    Raises: PluginError: something about the archive is not as it should be; what `source` raises.
    """
    argv = ["tar", "--extract", "--preserve-permissions", "--same-owner", *_ALL_OF_IT, "-C", str(tree)]
    digest = hashlib.sha256()
    try:
        with command.writing([*argv, *_HARMLESS], silent=True) as into:
            while piece := source.read(_PIECE):
                digest.update(piece)
                into.write(piece)
                bar.advance(len(piece))
    except CommandError as exc:
        raise PluginError(f"cannot import the archive: {exc}; nothing was made of it") from exc
    return digest.hexdigest()
