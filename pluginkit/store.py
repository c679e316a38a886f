"""The records on disk: one SQLite row a record, holding what is and what was intended next.

    kind, id      which record; `parent` is the id of the record it belongs to, if any
    current       the committed record as JSON, NULL before the first commit
    next          the intended record as JSON while a move is under way, JSON `null` for an intended deletion, else NULL

A row whose `next` is not NULL after a crash is an interrupted move. A kind is either durable (a commit survives power
loss) or lasts until reboot only: its rows are dropped when the kernel's boot id has changed, since the kernel objects
they speak of are gone.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from pluginkit import wire
from pluginkit.errors import BadRequest, StateError, Unavailable

R = TypeVar("R")
Migration = Callable[[sqlite3.Connection], None]

VERSION = metadata.version("pynet-pyvol")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DELETION = "null"
# Records of more bytes, and more of a kind, are not kept in memory.
_LONG, _MANY = 4096, 2048
# Source: https://www.sqlite.org/fileformat.html, section 1.3.
_HEADER_BYTES = 100
_BESIDE = ("-journal", "-wal", "-shm")


@dataclass(frozen=True)
class Kind(Generic[R]):
    """One sort of record."""

    name: str
    record: type[R]
    durable: bool


@dataclass(frozen=True)
class Row(Generic[R]):
    """One record with its move under way, if any. `next` is None for a deletion when `pending` is true."""

    id: str
    parent: str
    current: R | None
    next: R | None
    pending: bool

    @property
    def is_ending(self) -> bool:
        """Whether its creation or deletion is under way."""
        return self.pending and (self.current is None or self.next is None)


def create_tables(connection: sqlite3.Connection) -> None:
    """The database has the tables of schema 1."""
    connection.execute(
        "CREATE TABLE record (kind TEXT NOT NULL, id TEXT NOT NULL, parent TEXT NOT NULL, current TEXT, next TEXT,"
        " PRIMARY KEY (kind, id)) WITHOUT ROWID"
    )
    connection.execute("CREATE INDEX record_parent ON record (kind, parent)")
    connection.execute("CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")


def _create(path: Path) -> None:
    """A database without tables is at `path`, which is never seen as an empty file."""
    draft = path.with_name(path.name + ".new")
    # SQLite would read what lies beside a file that was moved away as part of the new one.
    for stale in (draft, *(file.with_name(file.name + end) for file in (draft, path) for end in _BESIDE)):
        stale.unlink(missing_ok=True)
    connection = sqlite3.connect(draft)
    draft.chmod(0o600)
    connection.execute("PRAGMA user_version = 0")
    connection.close()
    draft.replace(path)


class Store:
    """The records of one plugin, in one file. Safe to share between threads.

    `migrations[n]` brings schema n to n + 1; the file's schema number is how many have been applied.
    """

    def __init__(
        self, path: Path, kinds: Sequence[Kind[Any]], migrations: Sequence[Migration] = (create_tables,)
    ) -> None:
        """The file exists, is whole, and is of the newest schema; rows that a reboot made void are gone.

        Raises: StateError: the file is damaged, is no database, or was written by a newer version.
        """
        self._path = path
        self._lock = threading.Lock()
        self._synchronous = ""
        # All rows of a kind, as they were read since the last of the writes.
        self._known: dict[str, list[Row[Any]]] = {}
        self._writes = 0
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                _create(path)
            if path.stat().st_size < _HEADER_BYTES:
                # SQLite would take it for a new database, and the sweep everything in the kernel for garbage.
                raise StateError(f"cannot use the state file {path}: it is empty; restore a backup, or remove it")
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
            self._open(migrations)
            self._forget_before_boot([kind.name for kind in kinds if not kind.durable])
        except (sqlite3.Error, OSError) as exc:
            raise StateError(
                f"cannot use the state file {path}: {exc}; restore it from a backup, or move it away to start empty"
            ) from exc

    def close(self) -> None:
        """The file is closed; everything committed is in it."""
        with self._lock:
            self._connection.close()

    def _open(self, migrations: Sequence[Migration]) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        [[verdict]] = self._connection.execute("PRAGMA quick_check(1)")
        if verdict != "ok":
            raise StateError(f"cannot use the state file {self._path}: it is damaged ({verdict}); restore a backup")
        [[schema]] = self._connection.execute("PRAGMA user_version")
        if schema > len(migrations):
            writer = self._written_by() or "the version that wrote it"
            raise StateError(
                f"cannot use the state file {self._path}: its schema {schema} is newer than the {len(migrations)} of"
                f" this version, {VERSION}; install {writer} again, or restore the state that was saved before that"
            )
        for number in range(schema, len(migrations)):
            with self._transaction(durable=True):
                migrations[number](self._connection)
                self._connection.execute(f"PRAGMA user_version = {number + 1:d}")
        if self._written_by() != VERSION:
            with self._transaction(durable=True):
                self._connection.execute("INSERT OR REPLACE INTO fact VALUES ('written_by', ?)", (VERSION,))

    def _written_by(self) -> str:
        """Return the version that last had the file open, or nothing if it did not say."""
        found = self._connection.execute("SELECT value FROM fact WHERE name = 'written_by'").fetchone()
        return str(found[0]) if found else ""

    def _forget_before_boot(self, kinds: Sequence[str]) -> None:
        boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
        known = self._connection.execute("SELECT value FROM fact WHERE name = 'boot_id'").fetchone()
        if known and known[0] == boot_id:
            return
        with self._transaction(durable=True):
            for kind in kinds:
                self._connection.execute("DELETE FROM record WHERE kind = ?", (kind,))
            self._connection.execute("INSERT OR REPLACE INTO fact VALUES ('boot_id', ?)", (boot_id,))

    def get(self, kind: Kind[R], record_id: str) -> Row[R] | None:
        """Return the row, or None."""
        rows = self._select(kind, "AND id = ?", (record_id,))
        return rows[0] if rows else None

    def rows(self, kind: Kind[R], parent: str | None = None) -> list[Row[R]]:
        """Return the rows of `kind` (of `parent` alone, if given), by id.

        Raises: StateError: one of them cannot be read.
        """
        if parent is not None:
            return self._select(kind, "AND parent = ? ORDER BY id", (parent,))
        known, writes = self._known.get(kind.name), self._writes
        if known is None:
            known = self._select(kind, "ORDER BY id", ())
            with self._lock:
                if self._writes == writes and len(known) <= _MANY:
                    self._known[kind.name] = known
        return list(known)

    def parents(self, kind: Kind[Any]) -> set[str]:
        """Return whose children there are among the rows of `kind`; none of them is read."""
        return {bytes(parent).decode() for [parent] in self._fetch("DISTINCT CAST(parent AS BLOB)", kind, "", ())}

    def find(self, kind: Kind[R], parent: str | None, field: str, value: str) -> list[Row[R]]:
        """Return the rows whose committed record has the text `value` in `field`, by id. parent: None for any.

        Quick only if a migration has made an index on kind, parent (or not) and json_extract(current, '$.FIELD').
        """
        of_parent, values = ("", (value,)) if parent is None else ("AND parent = ?", (parent, value))
        condition = f"AND kind = '{kind.name}' {of_parent} AND json_extract(current, '$.{field}') = ? ORDER BY id"
        return self._select(kind, condition, values)

    def moving(self, kind: Kind[R], parent: str) -> list[Row[R]]:
        """Return the rows of `parent` that a move is under way of, by id."""
        return self._select(kind, "AND parent = ? AND next IS NOT NULL ORDER BY id", (parent,))

    def intend(self, kind: Kind[R], record_id: str, parent: str, record: R | None) -> None:
        """It is on record that `record_id` is about to become `record`, or nothing if that is None."""
        text = _DELETION if record is None else wire.encode(record).decode()
        with self._writing(kind):
            self._connection.execute(
                "INSERT INTO record VALUES (?, ?, ?, NULL, ?)"
                " ON CONFLICT (kind, id) DO UPDATE SET next = excluded.next",
                (kind.name, record_id, parent, text),
            )

    def commit(self, kind: Kind[Any], record_id: str) -> None:
        """What was intended for `record_id` is now the case."""
        with self._writing(kind):
            self._connection.execute(
                "DELETE FROM record WHERE kind = ? AND id = ? AND next = ?", (kind.name, record_id, _DELETION)
            )
            self._connection.execute(
                "UPDATE record SET current = next, next = NULL WHERE kind = ? AND id = ? AND next IS NOT NULL",
                (kind.name, record_id),
            )

    def abandon(self, kind: Kind[Any], record_id: str) -> None:
        """What was intended for `record_id` is forgotten; the row is gone if nothing had been committed."""
        with self._writing(kind):
            self._connection.execute(
                "DELETE FROM record WHERE kind = ? AND id = ? AND current IS NULL", (kind.name, record_id)
            )
            self._connection.execute("UPDATE record SET next = NULL WHERE kind = ? AND id = ?", (kind.name, record_id))

    def _select(self, kind: Kind[R], condition: str, values: tuple[str, ...]) -> list[Row[R]]:
        # As bytes, because SQLite checks neither that a column holds text nor that text is UTF-8.
        columns = ", ".join(f"CAST({name} AS BLOB)" for name in ("id", "parent", "current", "next"))
        return [self._row(kind, *found) for found in self._fetch(columns, kind, condition, values)]

    def _fetch(self, columns: str, kind: Kind[Any], condition: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
        query = f"SELECT {columns} FROM record WHERE kind = ? {condition}"  # noqa: S608 - constants
        with self._lock:
            try:
                return self._connection.execute(query, (kind.name, *values)).fetchall()
            except (sqlite3.OperationalError, sqlite3.ProgrammingError) as exc:
                raise Unavailable(f"cannot read {self._path}: {exc}") from exc
            except sqlite3.Error as exc:
                raise StateError(f"cannot read the state file {self._path}: {exc}; restore a backup") from exc

    def _row(
        self, kind: Kind[R], row_id: bytes, parent: bytes, current: bytes | None, following: bytes | None
    ) -> Row[R]:
        try:
            return Row(
                row_id.decode(),
                parent.decode(),
                _record(kind, current),
                _record(kind, following),
                following is not None,
            )
        except (BadRequest, UnicodeDecodeError) as exc:
            name = row_id.decode(errors="replace")
            raise StateError(f"cannot read the {kind.name} {name} in {self._path}: {exc}; restore a backup") from exc

    @contextmanager
    def _writing(self, kind: Kind[Any]) -> Iterator[None]:
        with self._lock:
            self._writes += 1
            self._known.pop(kind.name, None)
            try:
                with self._transaction(kind.durable):
                    yield
            except sqlite3.Error as exc:
                raise Unavailable(f"cannot save to {self._path}: {exc}; is its disk full or read-only?") from exc

    @contextmanager
    def _transaction(self, durable: bool) -> Iterator[None]:
        # In WAL mode NORMAL commits survive the death of this process; FULL adds the fsync that survives power loss.
        synchronous = "FULL" if durable else "NORMAL"
        if synchronous != self._synchronous:
            self._connection.execute(f"PRAGMA synchronous = {synchronous}")
            self._synchronous = synchronous
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def _record(kind: Kind[R], text: bytes | None) -> R | None:
    if text is None or text == _DELETION.encode():
        return None
    known: R = wire.decode(text, kind.record) if len(text) > _LONG else _decoded(text, kind)
    return known


# Records are values that nobody changes, and the same ones are read again and again.
@lru_cache(maxsize=_MANY)
def _decoded(text: bytes, kind: Kind[Any]) -> Any:
    return wire.decode(text, kind.record)
