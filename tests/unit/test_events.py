"""Events and who follows them, over a real socket: in order, to several, also to slow ones until they are too slow."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pluginkit import admin
from pluginkit.errors import PluginError, Unavailable
from pluginkit.events.ring import LOST, Events, Happening
from pluginkit.events.wire import Event, FollowRequest
from pluginkit.metrics import Metrics
from pluginkit.server import create_admin_app
from tests.serving import until


def happenings(kind: str, record_id: str, parent: str, before: Any, after: Any) -> Iterator[Happening]:
    yield Happening(f"{kind}-{before}-{after}", record_id, parent)


Start = Callable[..., Events]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Serves events from the directory until this process ends."""

    def started(**bounds: int) -> Events:
        events = Events(happenings, **bounds)
        admin.listen(tmp_path, create_admin_app("test", events.methods(), Metrics("test"), events.failed))
        return events

    return started


def asked(state_dir: Path, **request: Any) -> Iterator[Event]:
    return admin.lines("test", state_dir, "Events.Follow", FollowRequest(**request), Event)


class Raw:
    """A follower that reads when the test says so."""

    def __init__(self, state_dir: Path, buffer: int = 0) -> None:
        self.connection = http.client.HTTPConnection("test", timeout=30)
        self.connection.sock = socket.socket(socket.AF_UNIX)
        if buffer:
            self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.connection.sock.connect(str(state_dir / admin.SOCKET))
        self.connection.request("POST", "/v1/Events.Follow", b'{"Follow": true}')
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200

    def lines(self) -> Iterator[dict[str, Any]]:
        return (json.loads(line) for line in iter(self.answer.readline, b""))

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


def followers(events: Events) -> int:
    return len(events._followers)


def test_what_is_remembered_is_told_and_no_more(start: Start, tmp_path: Path) -> None:
    events = start(kept=3)
    for number in range(5):
        events.moved("thing", f"t{number}", "p", None, number)
    told = list(asked(tmp_path, Follow=False))
    assert [(each.Number, each.Kind, each.ID, each.Of) for each in told] == [
        (3, "thing-None-2", "t2", "p"), (4, "thing-None-3", "t3", "p"), (5, "thing-None-4", "t4", "p"),
    ]  # fmt: skip
    assert [each.Number for each in asked(tmp_path, Follow=False, After=4)] == [5]
    assert list(asked(tmp_path, Follow=False, After=5)) == []
    assert followers(events) == 0


def test_several_are_told_at_once_in_order(start: Start, tmp_path: Path) -> None:
    events = start()
    all_of_them = [Raw(tmp_path) for _ in range(4)]
    until(lambda: followers(events) == 4, "all follow")
    adding = [threading.Thread(target=lambda: [events.add(Happening("thing")) for _ in range(200)]) for _ in range(3)]
    for thread in adding:
        thread.start()
    for each in all_of_them:
        lines = each.lines()
        assert [next(lines)["Number"] for _ in range(600)] == list(range(1, 601))
    for thread in adding:
        thread.join()
    for each in all_of_them:
        each.close()
    # Nobody has to happen for it to be seen that they are gone.
    until(lambda: followers(events) == 0, "none follows")


def test_too_many_are_refused_and_one_that_ends_makes_room(start: Start, tmp_path: Path) -> None:
    events = start(followers=2)
    first, _second = Raw(tmp_path), Raw(tmp_path)
    with pytest.raises(PluginError, match="cannot follow events: 2 do already"):
        next(asked(tmp_path))
    # What is refused is itself an event, and those that do not follow are not counted.
    assert [(each.Kind, each.ID) for each in asked(tmp_path, Follow=False)] == [("failed", "Events.Follow")]
    first.close()
    until(lambda: followers(events) == 1, "there is room")
    Raw(tmp_path)


def test_one_that_does_not_read_is_dropped_with_a_word_and_keeps_nobody_waiting(start: Start, tmp_path: Path) -> None:
    events = start(behind=50, kept=10)
    slow, quick = Raw(tmp_path, buffer=4096), Raw(tmp_path)
    until(lambda: followers(events) == 2, "both follow")
    quick_lines = quick.lines()
    given, longest = 0, 0.0
    while followers(events) == 2:
        began = time.monotonic()
        events.add(Happening("thing", text="x" * 1000))
        longest = max(longest, time.monotonic() - began)
        given += 1
        assert next(quick_lines)["Number"] == given
    assert longest < 5, "an event waits for nobody"
    *told, last = slow.lines()
    assert last["Kind"] == LOST
    assert f"those after {given - 1}" in last["Text"]
    assert [each["Number"] for each in told] == list(range(1, given))
    quick.close()
    until(lambda: followers(events) == 0, "both are gone")
    until(lambda: not eventfds(), "no descriptor of theirs is left")


def eventfds() -> list[Path]:
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += [path] if "eventfd" in str(path.readlink()) else []
    return found


def test_a_plugin_that_does_not_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="is test running"):
        next(asked(tmp_path))
