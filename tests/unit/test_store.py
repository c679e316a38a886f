"""The records on disk: every state of a row, every move between them, and what outlives which death."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from pluginkit.errors import StateError, Unavailable
from pluginkit.store import Kind, Row, Store


@dataclass(frozen=True)
class Thing:
    size: int
    subnet: IPv4Network | None = None


KEPT = Kind("kept", Thing, durable=True)
UNTIL_REBOOT = Kind("until_reboot", Thing, durable=False)
KINDS = (KEPT, UNTIL_REBOOT)
OLD, NEW = Thing(1), Thing(2, IPv4Network("10.0.0.0/24"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "pnet.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store(path, KINDS)
    yield opened
    opened.close()


def reopen(store: Store, path: Path) -> Store:
    store.close()
    return Store(path, KINDS)


def absent(store: Store) -> None:
    pass


def creating(store: Store) -> None:
    store.intend(KEPT, "x", "p", OLD)


def committed(store: Store) -> None:
    creating(store)
    store.commit(KEPT, "x")


def changing(store: Store) -> None:
    committed(store)
    store.intend(KEPT, "x", "p", NEW)


def deleting(store: Store) -> None:
    committed(store)
    store.intend(KEPT, "x", "p", None)


def deleting_the_unborn(store: Store) -> None:
    store.intend(KEPT, "x", "p", None)


def row(current: Thing | None, following: Thing | None, pending: bool) -> Row[Thing]:
    return Row("x", "p", current, following, pending)


# state of the row            what it is                after commit             after abandon
MOVES: tuple[tuple[Callable[[Store], None], Row[Thing] | None, Row[Thing] | None, Row[Thing] | None], ...] = (
    (absent, None, None, None),
    (creating, row(None, OLD, True), row(OLD, None, False), None),
    (committed, row(OLD, None, False), row(OLD, None, False), row(OLD, None, False)),
    (changing, row(OLD, NEW, True), row(NEW, None, False), row(OLD, None, False)),
    (deleting, row(OLD, None, True), None, row(OLD, None, False)),
    (deleting_the_unborn, row(None, None, True), None, None),
)


@pytest.mark.parametrize(("state", "now", "after_commit", "after_abandon"), MOVES, ids=[m[0].__name__ for m in MOVES])
@pytest.mark.parametrize("closed", [False, True], ids=["open", "reopened"])
class TestMoves:
    def test_state(self, store, path, closed, state, now, after_commit, after_abandon) -> None:
        state(store)
        store = reopen(store, path) if closed else store
        assert store.get(KEPT, "x") == now
        assert store.rows(KEPT) == ([now] if now else [])
        store.close()

    def test_commit(self, store, path, closed, state, now, after_commit, after_abandon) -> None:
        state(store)
        store.commit(KEPT, "x")
        store = reopen(store, path) if closed else store
        assert store.get(KEPT, "x") == after_commit
        store.close()

    def test_abandon(self, store, path, closed, state, now, after_commit, after_abandon) -> None:
        state(store)
        store.abandon(KEPT, "x")
        store = reopen(store, path) if closed else store
        assert store.get(KEPT, "x") == after_abandon
        store.close()


@pytest.mark.parametrize("state", [move[0] for move in MOVES], ids=[move[0].__name__ for move in MOVES])
def test_a_new_intention_replaces_an_old_one_and_keeps_what_is(store: Store, state: Callable[[Store], None]) -> None:
    state(store)
    before = store.get(KEPT, "x")
    store.intend(KEPT, "x", "p", Thing(9))
    assert store.get(KEPT, "x") == row(before.current if before else None, Thing(9), True)


def test_rows_are_sorted_and_can_be_asked_of_one_parent(store: Store) -> None:
    for record_id, parent in (("c", "1"), ("a", "2"), ("b", "1")):
        store.intend(KEPT, record_id, parent, OLD)
        store.commit(KEPT, record_id)
    assert [found.id for found in store.rows(KEPT)] == ["a", "b", "c"]
    assert [found.id for found in store.rows(KEPT, "1")] == ["b", "c"]
    assert store.rows(KEPT, "3") == []


def test_a_row_keeps_its_first_parent(store: Store) -> None:
    committed(store)
    store.intend(KEPT, "x", "somebody else", NEW)
    assert store.get(KEPT, "x") == row(OLD, NEW, True)


def test_rows_are_found_by_a_field_of_what_is_committed(store: Store) -> None:
    for record_id, parent, record in (("a", "1", NEW), ("b", "1", OLD), ("c", "2", NEW), ("d", "1", NEW)):
        store.intend(KEPT, record_id, parent, record)
        if record_id != "d":
            store.commit(KEPT, record_id)
    assert [found.id for found in store.find(KEPT, "1", "subnet", "10.0.0.0/24")] == ["a"]
    assert store.find(KEPT, "1", "subnet", "10.0.0.0/25") == []
    assert store.find(UNTIL_REBOOT, "1", "subnet", "10.0.0.0/24") == []


def test_kinds_do_not_see_each_other(store: Store) -> None:
    committed(store)
    assert store.get(UNTIL_REBOOT, "x") is None
    store.intend(UNTIL_REBOOT, "x", "q", NEW)
    store.abandon(UNTIL_REBOOT, "x")
    assert store.get(KEPT, "x") == row(OLD, None, False)


@pytest.mark.parametrize("record_id", ["", "'; DROP TABLE record; --", "%", "é\u0000\U0001f600", "x" * 10_000])
def test_any_text_is_an_id(store: Store, path: Path, record_id: str) -> None:
    store.intend(KEPT, record_id, record_id, OLD)
    store.commit(KEPT, record_id)
    again = reopen(store, path)
    assert again.get(KEPT, record_id) == Row(record_id, record_id, OLD, None, False)
    again.close()


def fill(store: Store) -> None:
    for kind in KINDS:
        for record_id, finish in (("done", store.commit), ("half", None)):
            store.intend(kind, record_id, "", OLD)
            if finish:
                finish(kind, record_id)


def reboot(path: Path) -> None:
    """As if the file had been written before the last boot."""
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE fact SET value = 'an earlier boot' WHERE name = 'boot_id'")
    connection.close()


def test_a_restart_keeps_every_kind(store: Store, path: Path) -> None:
    fill(store)
    store = reopen(store, path)
    assert [len(store.rows(kind)) for kind in KINDS] == [2, 2]
    store.close()


def test_a_reboot_keeps_only_what_is_durable(store: Store, path: Path) -> None:
    fill(store)
    store.close()
    reboot(path)
    for _ in range(2):
        store = Store(path, KINDS)
        assert [found.id for found in store.rows(KEPT)] == ["done", "half"]
        assert store.rows(UNTIL_REBOOT) == []
        store.close()


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("current", "not JSON"),
        ("current", "{}"),
        ("current", '{"size": "big"}'),
        ("current", '{"size": 1, "subnet": "10.0.0.1/24"}'),
        ("next", '{"size": null}'),
        ("next", ""),
        ("current", b"\xff\xfe"),
        ("next", 5),
    ],
)
def test_an_unreadable_record_is_named_and_nothing_is_guessed(path: Path, column: str, text: object) -> None:
    store = Store(path, KINDS)
    committed(store)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE record SET {column} = ?", (text,))
    connection.close()
    store = Store(path, KINDS)
    for read in (lambda: store.get(KEPT, "x"), lambda: store.rows(KEPT)):
        with pytest.raises(StateError, match=r"cannot read the kept x in .*pnet\.db.*backup"):
            read()
    store.close()


def test_fields_of_a_later_version_are_ignored(path: Path) -> None:
    store = Store(path, KINDS)
    committed(store)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE record SET current = ?", ('{"size": 1, "colour": "red"}',))
    connection.close()
    store = Store(path, KINDS)
    assert store.get(KEPT, "x") == row(OLD, None, False)
    store.close()


def test_threads_share_one_store(store: Store) -> None:
    def work(name: str) -> None:
        for size in range(30):
            for kind in KINDS:
                store.intend(kind, name, "", Thing(size))
                assert store.get(kind, name) is not None
                store.commit(kind, name)
                store.rows(kind)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [f"t{number}" for number in range(8)]))
    for kind in KINDS:
        assert [found.current for found in store.rows(kind)] == [Thing(29)] * 8


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(Unavailable, match="cannot read"):
        store.get(KEPT, "x")
    with pytest.raises(Unavailable, match="cannot save"):
        store.intend(KEPT, "x", "", OLD)
