"""Snapshots of several volumes at one instant, and schedules: on the fake kernel and the real store."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluginkit.errors import BadRequest, Conflict, Exhausted, NotFound, PluginError
from tests.crash.fake_kernel import Death
from tests.volume.machine import Machine
from volplugin.admin.wire import SnapshotRequest, SnapshotsRequest
from volplugin.instants.times import expired, is_due, parse_schedule
from volplugin.instants.wire import GroupRequest, ScheduleRequest

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
GROUP = GroupRequest(("v@s", "w@t", "x@s"), 5)


def names(machine: Machine) -> list[str]:
    return [found.Snapshot for found in machine.admin.list_snapshots(SnapshotsRequest()).Snapshots]


@pytest.fixture
def three(machine: Machine) -> Machine:
    """A machine with three volumes, one of them mounted, and a snapshot of one."""
    for name in "vwx":
        machine.create(name, size="64M")
    machine.mount("v", "c")
    machine.admin.create_snapshot(SnapshotRequest("v@earlier"))
    return machine


@pytest.mark.parametrize("fatal", [True, False], ids=["death", "error"])
def test_a_group_is_there_whole_or_not_at_all(three: Machine, fatal: bool) -> None:
    struck = 0
    for step in count(1):
        three.steps.arm(step, fatal=fatal)
        try:
            three.instants.create_group(GROUP)
        except Death:
            struck += 1
            three.restart()
        except (PluginError, ExceptionGroup):
            struck += 1
            three.steps.disarm()
            three.driver.reconcile()
        else:
            if three.steps.taken < step:
                break
        three.steps.disarm()
        three.is_settled()
        assert names(three) in (["v@earlier"], ["v@earlier", "v@s", "w@t", "x@s"])
        for made in names(three)[1:]:
            three.admin.remove_snapshot(SnapshotRequest(made))
    assert struck > 10
    assert names(three) == ["v@earlier", "v@s", "w@t", "x@s"]
    three.restart()
    three.is_settled()
    assert names(three) == ["v@earlier", "v@s", "w@t", "x@s"]
    three.admin.remove_snapshot(SnapshotRequest("w@t"))
    three.restart()
    assert names(three) == ["v@earlier", "v@s", "x@s"]


def test_groups_that_cannot_be(three: Machine) -> None:
    three.create("b", backend="bind", source="/srv")
    for snapshots, within, kind in (
        (("v@s", "y@s"), 5.0, NotFound),
        (("v@s", "v@t"), 5.0, BadRequest),
        (("v@s", "w"), 5.0, BadRequest),
        (("v@s", "b@s"), 5.0, BadRequest),
        (("w@s", "v@earlier"), 5.0, Conflict),
        (("v@s", "w@s"), 0.0, BadRequest),
        (("v@s", "w@s"), 61.0, BadRequest),
        ((), 5.0, BadRequest),
    ):
        with pytest.raises(kind):
            three.instants.create_group(GroupRequest(snapshots, within))
    three.allocated_bytes, three.disk_bytes = 64 << 20, 100 << 20
    with pytest.raises(Exhausted):
        three.instants.create_group(GROUP)
    assert names(three) == ["v@earlier"]
    three.is_settled()


def test_a_schedule_through_the_weeks(three: Machine) -> None:
    three.now = START
    three.instants.set_schedule(ScheduleRequest("v", "4h:1d:2w"))
    assert three.status("v")["schedule"] == "4h:1d:2w"
    for _ in range(20 * 24 * 2):
        three.instants.run()
        three.now += timedelta(minutes=30)
    three.restart()
    taken = [name.partition("@auto-")[2] for name in names(three) if "@auto-" in name]
    days = Counter(name[:8] for name in taken)
    # The schedule ran last at 11:30 on the 21st.
    assert len(days) == 14
    assert all(days[day] == 1 for day in sorted(days)[:-2])
    assert [name[9:13] for name in taken[-6:]] == ["1200", "1600", "2000", "0000", "0400", "0800"]
    assert "v@earlier" in names(three)
    assert all(name.startswith("v@") for name in names(three))
    three.is_settled()


def test_what_was_missed_is_made_up_once_and_nothing_after_the_end(three: Machine) -> None:
    three.now = START
    three.instants.set_schedule(ScheduleRequest("v", "1h:2h:3h"))
    three.instants.run()
    three.restart()
    three.now += timedelta(minutes=59)
    three.instants.run()
    assert len(names(three)) == 2
    three.now += timedelta(days=3)
    for _ in range(3):
        three.instants.run()
    assert names(three) == ["v@auto-20260304T125900Z", "v@earlier"]
    three.instants.set_schedule(ScheduleRequest("v", ""))
    three.now += timedelta(days=3)
    three.instants.run()
    assert names(three) == ["v@auto-20260304T125900Z", "v@earlier"]
    assert "schedule" not in three.status("v")


def test_one_that_cannot_be_taken_does_not_end_the_others(three: Machine) -> None:
    three.now = START
    for name in "vwx":
        three.instants.set_schedule(ScheduleRequest(name, "1h:1d"))
    three.steps.arm(2, fatal=False)
    three.instants.run()
    assert len(names(three)) == 3
    three.steps.disarm()
    three.instants.run()
    assert len(names(three)) == 4
    three.is_settled()


@pytest.mark.parametrize("text", ["", "4h", "4h:", "1d:4h", "4h:4h", "4:5", "0h:1d", "4h;1d", "4h:1d:1M", "1h:999999y"])
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(BadRequest, match="each longer than the one before, such as 4h:1d:2w"):
        parse_schedule(text)


@given(st.lists(st.integers(0, 10_000), max_size=40, unique=True), st.integers(0, 5000))
def test_what_is_kept_was_always_kept(minutes: list[int], later: int) -> None:
    """Nothing young goes, nothing old stays, and each span that has any keeps one."""
    schedule = parse_schedule("10m:1h:1d:4d")
    now = START + timedelta(minutes=10_000)
    taken = [START + timedelta(minutes=minute) for minute in minutes]
    gone = expired(schedule, taken, now)
    assert not any(now - time < timedelta(hours=1) for time in gone)
    assert {time for time in taken if now - time >= timedelta(days=4)} <= gone
    kept = set(taken) - gone
    hours = Counter(time.replace(minute=0) for time in kept if timedelta(hours=1) <= now - time < timedelta(days=1))
    assert set(hours.values()) <= {1}
    # One more look now changes nothing; what is gone by then would be gone without this one, too.
    assert expired(schedule, kept, now) == set()
    assert is_due(schedule, kept, now) == (not any(now - time < timedelta(minutes=10) for time in kept))
    assert expired(schedule, kept, now + timedelta(minutes=later)) <= kept
