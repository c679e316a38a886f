"""The state file itself: damage, versions, migrations, a full disk. When in doubt it is refused and left as it was."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pluginkit.errors import StateError, Unavailable
from pluginkit.store import VERSION, Kind, Migration, Store, create_tables


@dataclass(frozen=True)
class Thing:
    text: str


KIND = Kind("thing", Thing, durable=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def filled(path: Path) -> Path:
    """A closed state file of several pages."""
    store = Store(path, [KIND])
    for number in range(100):
        store.intend(KIND, f"{number:03}", "", Thing("x" * 200))
        store.commit(KIND, f"{number:03}")
    store.close()
    assert path.stat().st_size > 5 * 4096
    return path


def schema_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    [[number]] = connection.execute("PRAGMA user_version")
    connection.close()
    return int(number)


def columns(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    names = {name for _, name, *_ in connection.execute("PRAGMA table_info(record)")}
    connection.close()
    return names


def test_the_file_and_its_directory_are_private(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on demand" / "state.db"
    Store(path, [KIND]).close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def add_colour(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE record ADD COLUMN colour TEXT")


def fail_half_way(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE record ADD COLUMN half TEXT")
    connection.execute("DELETE FROM record")
    connection.execute("ALTER TABLE no_such_table ADD COLUMN other TEXT")


def test_a_migration_is_applied_once(filled: Path) -> None:
    assert schema_of(filled) == 1
    for _ in range(2):
        store = Store(filled, [KIND], migrations=(create_tables, add_colour))
        assert len(store.rows(KIND)) == 100
        store.close()
        assert schema_of(filled) == 2
        assert "colour" in columns(filled)


def test_a_failing_migration_leaves_the_file_as_it_was(filled: Path) -> None:
    with pytest.raises(StateError, match="no_such_table"):
        Store(filled, [KIND], migrations=(create_tables, add_colour, fail_half_way))
    assert schema_of(filled) == 2
    assert "half" not in columns(filled)
    store = Store(filled, [KIND], migrations=(create_tables, add_colour))
    assert len(store.rows(KIND)) == 100
    store.close()


def test_a_new_file_gets_every_migration(path: Path) -> None:
    Store(path, [KIND], migrations=(create_tables, add_colour)).close()
    assert schema_of(path) == 2


def test_a_newer_schema_is_refused_and_not_touched(filled: Path) -> None:
    Store(filled, [KIND], migrations=(create_tables, add_colour)).close()
    before = filled.read_bytes()
    message = rf"schema 2 is newer than the 1 of this version, {re.escape(VERSION)}; install {re.escape(VERSION)} again"
    with pytest.raises(StateError, match=message):
        Store(filled, [KIND])
    assert filled.read_bytes() == before


def opens_or_refuses(path: Path, migrations: tuple[Migration, ...] = (create_tables,)) -> bool:
    """Tell whether the file was opened and read; any other error than StateError fails the test."""
    try:
        store = Store(path, [KIND], migrations)
    except StateError:
        return False
    try:
        store.rows(KIND)
    except StateError:
        return False
    finally:
        store.close()
    return True


def text(content: bytes) -> bytes:
    return b"# a configuration file\n" * 500


def another_header(content: bytes) -> bytes:
    return b"SQLite format 9\0" + content[16:]


def zeroed_page(content: bytes) -> bytes:
    return content[: 2 * 4096] + bytes(4096) + content[3 * 4096 :]


def noise(content: bytes) -> bytes:
    return bytes(byte ^ 0x5A if 100 <= index < 3 * 4096 else byte for index, byte in enumerate(content))


@pytest.mark.parametrize("damage", [text, another_header, zeroed_page, noise], ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_refused_and_not_touched(filled: Path, damage: Callable[[bytes], bytes]) -> None:
    damaged = damage(filled.read_bytes())
    filled.write_bytes(damaged)
    assert not opens_or_refuses(filled)
    assert filled.read_bytes() == damaged


@pytest.mark.parametrize("size", [0, 1, 15, 16, 99, 100, 511, 512, 4095, 4096, 5000, 8192, 3 * 4096, -4096, -1])
def test_a_truncated_file_is_refused(filled: Path, size: int) -> None:
    content = filled.read_bytes()
    filled.write_bytes(content[:size])
    assert not opens_or_refuses(filled)


def test_a_flipped_bit_anywhere_is_refused_or_read_but_never_a_bug(filled: Path) -> None:
    """SQLite has no checksums: a flip inside a text is another text. What must not happen is any other exception."""
    content = filled.read_bytes()
    refused = 0
    for position in [*range(200), *range(4096, 4200), *range(200, len(content), 397)]:
        flipped = bytearray(content)
        flipped[position] ^= 1 << (position % 8)
        filled.write_bytes(flipped)
        for leftover in filled.parent.glob("state.db-*"):
            leftover.unlink()
        refused += not opens_or_refuses(filled)
    assert refused > 30


def test_what_lies_beside_a_file_that_was_moved_away_is_not_read(path: Path) -> None:
    store = Store(path, [KIND])
    store.intend(KIND, "old", "", Thing("x"))
    log = path.with_name("state.db-wal").read_bytes()
    assert log
    store.close()
    path.unlink()
    path.with_name("state.db-wal").write_bytes(log)
    store = Store(path, [KIND])
    assert store.rows(KIND) == []
    store.close()


def test_a_first_start_that_was_cut_short_is_a_first_start(path: Path) -> None:
    path.with_name("state.db.new").write_bytes(b"")
    path.with_name("state.db.new-journal").write_bytes(b"half a journal")
    Store(path, [KIND]).close()
    assert sorted(found.name for found in path.parent.iterdir()) == ["state.db"]


def test_a_directory_in_its_place_is_refused(path: Path) -> None:
    path.mkdir()
    assert not opens_or_refuses(path)


def test_a_file_in_place_of_its_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert not opens_or_refuses(tmp_path / "state" / "state.db")


@pytest.fixture
def full(filled: Path) -> Iterator[Store]:
    """A store whose file may not grow by a single page, as on a full disk: SQLITE_FULL from the same place."""
    store = Store(filled, [KIND])
    [[pages]] = store._connection.execute("PRAGMA page_count")
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    yield store
    store.close()


def test_a_full_disk_is_said_and_changes_nothing(full: Store) -> None:
    before = full.rows(KIND)
    with pytest.raises(Unavailable, match=r"cannot save to .*full"):
        full.intend(KIND, "big", "", Thing("x" * 1_000_000))
    assert full.rows(KIND) == before


def test_on_a_full_disk_records_can_still_be_deleted_and_then_made_again(full: Store) -> None:
    for number in range(50):
        full.intend(KIND, f"{number:03}", "", None)
        full.commit(KIND, f"{number:03}")
    full.intend(KIND, "new", "", Thing("y" * 200))
    full.commit(KIND, "new")
    assert len(full.rows(KIND)) == 51


def test_two_processes_share_the_file_in_turn(path: Path) -> None:
    """The master checks the file before the worker opens it: one open store does not keep another out."""
    first, second = Store(path, [KIND]), Store(path, [KIND])
    first.intend(KIND, "x", "", Thing("1"))
    second.commit(KIND, "x")
    row = first.get(KIND, "x")
    assert row is not None
    assert row.current == Thing("1")
    first.close()
    second.close()
