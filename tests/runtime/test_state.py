"""Records survive the process, and a file that cannot be used is refused."""

import sqlite3
from contextlib import closing

import pytest

from runtime.errors import Failed
from runtime.state import State


def test_what_was_put_is_there_after_a_restart(tmp_path):
    path = tmp_path / "pyrun" / "state.db"
    with closing(State(path)) as state:
        state.put("network", "a", {"Name": "blue"})
        state.put("network", "b", {"Name": "green"})
        state.put("volume", "a", {"Name": "notes"})
        state.put("network", "a", {"Name": "red"})
        state.delete("network", "b")
        state.delete("network", "never there")
    with closing(State(path)) as state:
        assert state.all("network") == {"a": {"Name": "red"}}
        assert state.get("volume", "a") == {"Name": "notes"}
        assert state.get("volume", "b") is None
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "state.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(Failed, match="cannot use the state file"):
        State(tmp_path / "state.db")


def test_a_newer_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "state.db"
    State(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(Failed, match="schema 99 is newer"):
        State(path)
