"""Layers on disk: one directory each, named by the digest of its uncompressed archive, checked when it is added."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import secrets
import shutil
import zlib
from pathlib import Path
from typing import IO, Any

from runtime.errors import BadParameter, Failed
from runtime.images.unpack import unpack
from runtime.state import State

_LAYER = "layer"
_ALGORITHM = "sha256:"
# mount(2) takes 4096 bytes of options: long names would leave room for few layers.
_NAME_LENGTH = 24
_MAGIC = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


class Layers:
    """The layers below `folder`. Whoever adds and whoever removes must not do so at the same time."""

    def __init__(self, state: State, folder: Path) -> None:
        """What an interrupted `add` has left is gone."""
        self._state, self._folder = state, folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = {self.path(digest) for digest in state.all(_LAYER)}
        for path in folder.iterdir():
            if path not in known:
                shutil.rmtree(path)

    def path(self, digest: str) -> Path:
        """Return the directory of a layer."""
        return self._folder / digest.removeprefix(_ALGORITHM)[:_NAME_LENGTH]

    def size(self, digest: str) -> int:
        """Return the bytes in the layer's files."""
        return int((self._state.get(_LAYER, digest) or {"size": 0})["size"])

    def add(self, archive: IO[bytes], expected: str = "") -> str:
        """The layer is there; return its digest.

        Raises: BadParameter: the archive is damaged or hostile, or its digest is not the `expected` one.
        """
        if expected and self._state.get(_LAYER, expected):
            return expected
        fresh = self._folder / f"new-{secrets.token_hex(6)}"
        fresh.mkdir(mode=0o755)
        try:
            counted = _Hashed(decompressed(archive))
            try:
                size = unpack(counted, fresh)  # type: ignore[arg-type] # tarfile asks for read() alone
                counted.drain()
            except (EOFError, OSError, zlib.error, lzma.LZMAError) as exc:
                raise BadParameter(f"cannot unpack the archive: {exc}; its compression is damaged") from exc
            digest = counted.digest()
            if expected and digest != expected:
                raise BadParameter(f"cannot add layer {expected}: its content has the digest {digest}")
            if not self._state.get(_LAYER, digest):
                target = self.path(digest)
                if target.exists():
                    raise Failed(f"cannot add layer {digest}: {target} belongs to another one")
                fresh.rename(target)
                self._state.put(_LAYER, digest, {"size": size})
            return digest
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def keep_only(self, wanted: set[str]) -> list[str]:
        """No other layers are there than the `wanted`; return those that were removed."""
        removed = [digest for digest in self._state.all(_LAYER) if digest not in wanted]
        for digest in removed:
            self._state.delete(_LAYER, digest)
            shutil.rmtree(self.path(digest), ignore_errors=True)
        return removed


def decompressed(archive: IO[bytes]) -> IO[bytes]:
    """Return the archive's content, whichever way it is compressed.

    Raises: BadParameter: with zstd.
    """
    peeked = _Peeked(archive)
    if peeked.start.startswith(b"\x28\xb5\x2f\xfd"):
        raise BadParameter("cannot unpack the archive: it is compressed by zstd; use gzip, bzip2, xz or nothing")
    for magic, opened in _MAGIC.items():
        if peeked.start.startswith(magic):
            found: Any = opened(peeked, "rb")  # type: ignore[operator] # read() is all that they call
            return found  # type: ignore[no-any-return]
    return peeked  # type: ignore[return-value]


class _Peeked:
    """A stream of which the first bytes are known before they are read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.start = source.read(6)
        self._left = self.start

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        if self._left:
            taken, self._left = (self._left, b"") if size < 0 else (self._left[:size], self._left[size:])
            return taken + self._source.read() if size < 0 else taken
        return self._source.read(size)


class _Hashed:
    """A stream that remembers the digest of what was read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self._sum = source, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        content = self._source.read(size)
        self._sum.update(content)
        return content

    def drain(self) -> None:
        """All is read: tar ends before its file does."""
        while self.read(1 << 20):
            pass

    def digest(self) -> str:
        """Return the digest of what was read so far."""
        return _ALGORITHM + self._sum.hexdigest()
