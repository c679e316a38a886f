"""Where archives go to and come from: a file, standard output and input, and whatever fsspec knows by its URL."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from pluginkit.errors import BadRequest, Conflict, PluginError

STANDARD = "-"
_PARTIAL = ".partial"
_MIN_KEY_BYTES, _MAX_KEY_BYTES = 32, 1 << 16
# What fsspec and what it stands on raise: no such protocol, a package of it is missing, it did not work.
_FAILURES = (OSError, ImportError, ValueError)


def is_file(to: str) -> bool:
    """Tell whether that is a file of this host."""
    return to != STANDARD and "://" not in to


def partial(to: str) -> Path:
    """Return where an archive is that will be the file `to`."""
    return Path(to + _PARTIAL)


@contextmanager
def target(to: str) -> Iterator[BinaryIO]:
    """What was written in the block is at `to`, all of it and on the disk; if an error left the block, nothing is.

    What is to be a file can be read, too: it begins with what was written when the block was left by an error before.

    Raises: Conflict: something is there already; BadRequest: it is a terminal; PluginError: it cannot be written to.
    """
    if to == STANDARD:
        if sys.stdout.isatty():
            raise BadRequest("cannot write an archive to a terminal; give --to FILE, or send the output somewhere")
        yield cast("BinaryIO", _Translating(sys.stdout.buffer, "write", "the archive"))
        with _translated("write", "the archive"):
            sys.stdout.buffer.flush()
    elif not is_file(to):
        with _remote(to) as (filesystem, path):
            with _translated("write", to):
                if filesystem.exists(path):
                    raise Conflict(f"cannot write {to}: it exists; give another name")
                # Others see nothing of it before its end, and never anything if there is an error.
                with filesystem.transaction:
                    with filesystem.open(path, "wb") as file:
                        yield cast("BinaryIO", _Translating(file, "write", to))
    else:
        with _file(to) as file:
            yield file


@contextmanager
def source(of: str) -> Iterator[BinaryIO]:
    """Inside the block it can be read. Raises: PluginError: it cannot."""
    if of == STANDARD:
        yield cast("BinaryIO", _Translating(sys.stdin.buffer, "read", "the archive"))
    elif "://" in of:
        with _remote(of) as (filesystem, path):
            with _translated("read", of):
                file = filesystem.open(path, "rb")
            with file:
                yield cast("BinaryIO", _Translating(file, "read", of))
    else:
        with _translated("read", of):
            descriptor = os.open(of, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            yield cast("BinaryIO", _Translating(file, "read", of))


def read_key(path: Path | None) -> bytes | None:
    """Return the key in the file, if one is given. Raises: BadRequest: it is none."""
    if path is None:
        return None
    with _translated("read the key", str(path)), path.open("rb") as file:
        secret = file.read(_MAX_KEY_BYTES + 1)
    if not _MIN_KEY_BYTES <= len(secret) <= _MAX_KEY_BYTES:
        raise BadRequest(
            f"cannot use the key {path}: it has to have {_MIN_KEY_BYTES} to {_MAX_KEY_BYTES} bytes, all of them random:"
            f" head -c {_MIN_KEY_BYTES} /dev/urandom"
        )
    return secret


@contextmanager
def _file(to: str) -> Iterator[BinaryIO]:
    path, begun = Path(to), partial(to)
    if path.exists():
        raise Conflict(f"cannot write {to}: it exists; give another name")
    with _translated("write", to):
        file = os.fdopen(os.open(begun, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
    with file:
        _claim(file, begun, to)
        try:
            yield cast("BinaryIO", _Translating(file, "write", to))
            with _translated("write", to):
                file.flush()
                os.fsync(file.fileno())
                begun.rename(path)
        except BaseException:
            with suppress(OSError):
                file.flush()
            if not os.fstat(file.fileno()).st_size:
                begun.unlink(missing_ok=True)
            raise


def _claim(file: BinaryIO, begun: Path, to: str) -> None:
    """The file is ours alone, and still where it was opened: whoever had it until now may have finished it."""
    try:
        os.lockf(file.fileno(), os.F_TLOCK, 0)
        if os.path.samestat(os.fstat(file.fileno()), begun.stat()):
            return
    except OSError as exc:
        raise Conflict(f"cannot write {to}: another backup is writing it") from exc
    raise Conflict(f"cannot write {to}: another backup has just written it")


@contextmanager
def _remote(url: str) -> Iterator[tuple[Any, str]]:
    with _translated("use", url):
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(url)
    yield filesystem, path


class _Translating:
    """A file whose errors name what it is."""

    def __init__(self, file: Any, operation: str, name: str) -> None:
        self._file = file
        self._operation = operation
        self._name = name

    def read(self, size: int) -> bytes:
        with _translated(self._operation, self._name):
            return cast("bytes", self._file.read(size))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _translated(self._operation, self._name):
            return cast("int", self._file.seek(offset, whence))

    def truncate(self, size: int) -> int:
        with _translated(self._operation, self._name):
            return cast("int", self._file.truncate(size))

    def write(self, content: bytes) -> int:
        with _translated(self._operation, self._name):
            return cast("int", self._file.write(content))


@contextmanager
def _translated(operation: str, name: str) -> Iterator[None]:
    try:
        yield
    except _FAILURES as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise PluginError(f"cannot {operation} {name}: {reason or type(exc).__name__}") from exc
