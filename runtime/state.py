"""What pyrun remembers: records by kind and key in one SQLite file, each a JSON object."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

from runtime.errors import Failed

Record = dict[str, Any]
SCHEMA = 1


class State:
    """The records in one file. Threads may share it. Source: sqlite.org/wal.html, pragma synchronous."""

    def __init__(self, path: Path) -> None:
        """The file exists and is of this schema.

        Raises: Failed: it is damaged, or was written by a newer version.
        """
        self._path = path
        self._turn = threading.Lock()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
            path.chmod(0o600)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            [[verdict]] = self._connection.execute("PRAGMA quick_check(1)")
            [[schema]] = self._connection.execute("PRAGMA user_version")
            if verdict != "ok":
                raise Failed(
                    f"cannot use the state file {path}: it is damaged ({verdict}); restore a backup, or move it away"
                )
            if schema > SCHEMA:
                raise Failed(
                    f"cannot use the state file {path}: its schema {schema} is newer than this version's {SCHEMA};"
                    " install the version that wrote it, or restore the state that was saved before that"
                )
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS record"
                " (kind TEXT, key TEXT, content TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID"
            )
            self._connection.execute(f"PRAGMA user_version = {SCHEMA:d}")
        except sqlite3.Error as exc:
            raise Failed(f"cannot use the state file {path}: {exc}; restore a backup, or move it away") from exc

    def put(self, kind: str, key: str, record: Record) -> None:
        """The record is on disk, in place of an older one of that kind and key."""
        self._run("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", kind, key, json.dumps(record))

    def delete(self, kind: str, key: str) -> None:
        """There is no such record."""
        self._run("DELETE FROM record WHERE kind = ? AND key = ?", kind, key)

    def get(self, kind: str, key: str) -> Record | None:
        """Return the record, or None."""
        found = self._run("SELECT content FROM record WHERE kind = ? AND key = ?", kind, key)
        return json.loads(found[0][0]) if found else None

    def all(self, kind: str) -> dict[str, Record]:
        """Return the records of that kind by key."""
        found = self._run("SELECT key, content FROM record WHERE kind = ? ORDER BY key", kind)
        return {key: json.loads(content) for key, content in found}

    def close(self) -> None:
        """The file is closed."""
        with self._turn:
            self._connection.close()

    def _run(self, statement: str, *values: str) -> list[tuple[str, ...]]:
        with self._turn:
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.Error as exc:
                raise Failed(f"cannot use the state file {self._path}: {exc}; is its disk full or read-only?") from exc
