"""What `pynet doctor` finds of an etcd that is out of reach, or slow."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from integration.lab.clock import WallClock
from netplugin.admin.cli import ask
from netplugin.admin.wire import EtcdInfo, ServiceAnswer
from tests.cluster.server import Server
from tests.network.sandboxes import command
from tests.serving import Serving, until

PYNET = Path(sys.executable).with_name("pynet")
VTEP = "10.90.0.11"
BEAT_S = 5.0


@pytest.fixture
def serving(server: Server, tmp_path: Path) -> Iterator[Serving]:
    command("ip", "addr", "add", VTEP, "dev", "lo")
    cluster = ("--cluster", f"etcd://127.0.0.1:{server.port}", "--vtep", VTEP)
    serving = Serving("pynet", tmp_path, *cluster)
    serving.start()
    yield serving
    serving.kill()


def etcd(serving: Serving) -> EtcdInfo:
    told = ask(serving.state_dir, "Service.Inspect", ServiceAnswer).Etcd
    assert told is not None
    return told


def doctor(serving: Serving) -> tuple[int, dict[str, str]]:
    """The exit code, and what it finds but for notes and that there is no engine, each with its cure."""
    argv = [str(PYNET), "doctor", "--json", "--engine", "/nonexistent", "--state-dir", str(serving.state_dir)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = {each["what"]: each["cure"] for each in json.loads(done.stdout) if each["level"] != "note"}
    assert found.pop("no engine could be asked what it knows")
    return done.returncode, found


def test_an_etcd_that_is_out_of_reach(serving: Serving, server: Server) -> None:
    until(lambda: etcd(serving).AnsweredAt is not None, "an answer of etcd")
    assert doctor(serving)[1] == {}
    server.stop()
    stopped = datetime.now(UTC)
    until(lambda: etcd(serving).Failure != "", "the loss of etcd")
    code, found = doctor(serving)
    [(what, cure)] = found.items()
    assert code == 1
    last = etcd(serving).AnsweredAt
    assert last is not None
    assert last < stopped
    assert what.startswith(f"etcd answered last at {last:%Y-%m-%d %H:%M:%S}Z: cannot ask etcd: 127.0.0.1: ")
    assert "Connection refused" in what
    assert "new networks are refused" in cure
    server.start()
    until(lambda: etcd(serving).Failure == "", "etcd")
    assert doctor(serving)[1] == {}


def test_an_etcd_that_was_never_there(serving: Serving, server: Server) -> None:
    serving.kill()
    server.stop()
    serving.start()
    until(lambda: etcd(serving).Failure != "", "a failure")
    [what] = doctor(serving)[1]
    assert what.startswith("etcd has not answered yet: cannot ask etcd: ")


def test_an_etcd_that_is_slow(serving: Serving, server: Server) -> None:
    until(lambda: etcd(serving).AnsweredAt is not None, "an answer of etcd")
    found: dict[str, str] = {}
    for _ in range(6):
        beat = etcd(serving).AnsweredAt
        assert beat is not None
        # It is silent from before the next beat until 1.5 s after it: a beat waits for 2 s.
        time.sleep(max(0.0, BEAT_S - 0.5 - (datetime.now(UTC) - beat).total_seconds()))
        server.answer_nobody(2.0)
        until(lambda beat=beat: etcd(serving).AnsweredAt != beat, "the next beat")  # type: ignore[misc]
        if etcd(serving).TookMs >= 1000 and (found := doctor(serving)[1]):
            break
    [(what, cure)] = found.items()
    assert re.fullmatch(r"etcd took [12]\d{3} ms to answer a small question", what)
    assert "its disks, its hosts or the way there" in cure
    until(lambda: etcd(serving).TookMs < 1000, "a quick beat")
    assert doctor(serving)[1] == {}


def test_a_clock_that_is_not_etcds(serving: Serving, tmp_path: Path) -> None:
    serving.kill()
    clock = WallClock(tmp_path)
    clock.set(-100)
    serving.env |= clock.env
    serving.start()
    until(lambda: etcd(serving).AheadS != 0, "a beat")
    code, found = doctor(serving)
    [(what, cure)] = found.items()
    assert code == 1
    assert re.fullmatch(r"the clock of this host is (99|100|101) s behind etcd's", what)
    assert "chrony on all hosts" in cure
    clock.set(100)
    until(lambda: etcd(serving).AheadS < 0, "a beat by the new clock")
    assert [re.sub(r"\d+", "N", what) for what in doctor(serving)[1]] == [
        "the clock of this host is N s ahead of etcd's"
    ]
    clock.set(0)
    until(lambda: abs(etcd(serving).AheadS) <= 1, "a beat by the right clock")
    assert doctor(serving)[1] == {}
