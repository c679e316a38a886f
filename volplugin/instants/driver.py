"""Snapshots of several volumes at one instant, and at set times."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pluginkit.errors import BadRequest, Conflict, PluginError
from pluginkit.locks import Locks
from pluginkit.log import failure
from pluginkit.server import Method, bound
from volplugin.admin.wire import SnapshotRequest
from volplugin.instants.times import expired, is_due, parse_schedule
from volplugin.instants.wire import GroupAnswer, GroupRequest, ScheduleRequest
from volplugin.options import Loop
from volplugin.records import Snapshot, Volume, parse_name, parse_snapshot_id
from volplugin.volumes import Volumes, not_found, pool_of

log = logging.getLogger(__name__)

_MAX_WITHIN_S = 60.0


class Freezer(Protocol):
    """What stops all writing to several volumes."""

    def together(self, targets: Sequence[Path], timeout_s: float) -> AbstractContextManager[None]:
        """Inside the block what is mounted at these is frozen, and snapshots of it do not thaw it.

        Raises: KernelError: it cannot be, or was not until the end of the block, because that took longer.
        """


class Snapshots(Protocol):
    """What makes and removes one snapshot."""

    def create_snapshot(self, request: SnapshotRequest) -> None:
        """There is a snapshot of that name."""

    def remove_snapshot(self, request: SnapshotRequest) -> None:
        """There is none."""


class InstantDriver:
    """Groups and schedules. locks: those of the engine's driver."""

    def __init__(
        self,
        volumes: Volumes,
        locks: Locks,
        freezer: Freezer,
        snapshots: Snapshots,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._volumes = volumes
        self._locks = locks
        self._freezer = freezer
        self._snapshots = snapshots
        self._now = now
        self._running = threading.Lock()

    def methods(self) -> tuple[Method, ...]:
        """Return every method, as this driver answers it."""
        return bound(METHODS, self)

    def create_group(self, request: GroupRequest) -> GroupAnswer:
        """There are snapshots of these names, of the volumes as they were at one instant; or, on an error, none.

        Raises: NotFound; Conflict: there was one already; BadRequest, Exhausted; KernelError: also if containers would
        have had to wait for longer than they may.
        """
        ids = [parse_snapshot_id(text) for text in request.Snapshots]
        names = [name for name, _ in ids]
        if len(set(names)) != len(names) or not names:
            raise BadRequest("cannot take snapshots at one instant: give each volume once")
        if not 0 < request.WithinSeconds <= _MAX_WITHIN_S:
            raise BadRequest(f"cannot keep containers waiting: it takes 0 to {_MAX_WITHIN_S:g} seconds")
        move, planned = self._volumes.reconciler.transition, self._volumes.snapshots_planned
        with self._locks.hold(*names):
            pairs = [self._new(volume, snapshot) for volume, snapshot in ids]
            group = " ".join(snapshot.id for _, snapshot in pairs)
            for _, snapshot in pairs:
                # What an earlier attempt left unfinished is of another instant.
                move(planned, snapshot.id, None)
            targets = [self._volumes.layout.mount(volume).target for volume, _ in pairs]
            try:
                with self._admitted([volume for volume, _ in pairs]):
                    began = time.monotonic()
                    with self._freezer.together(targets, request.WithinSeconds):
                        for volume, snapshot in pairs:
                            move(planned, snapshot.id, replace(snapshot, group=group), parent=volume.name)
                    took = time.monotonic() - began
                # Until the last of them is finished, a restart takes all for unfinished.
                made = self._now().replace(microsecond=0)
                for _, snapshot in pairs:
                    move(planned, snapshot.id, replace(snapshot, group=group, created_at=made))
            except Exception:
                for _, snapshot in pairs:
                    for _failed in self._volumes.tried(planned, snapshot.id, None):
                        pass
                raise
        return GroupAnswer(round(took * 1000))

    def set_schedule(self, request: ScheduleRequest) -> None:
        """Snapshots of the volume are taken at these times, or no more; those that there are stay. Raises: NotFound."""
        name = parse_name(request.Name)
        if request.Schedule:
            parse_schedule(request.Schedule)
        with self._locks.hold(name), self._volumes.remembering(name):
            volume = self._volumes.known(name)
            if volume is None:
                raise not_found(name)
            _check_loop(volume)
            self._volumes.change(replace(volume, schedule=request.Schedule))

    def wake(self) -> None:
        """What is due is being done, by a thread of its own: a copy may take long, and reconcile must not wait."""
        if self._running.acquire(blocking=False):
            threading.Thread(target=self._run, daemon=True).start()

    def run(self) -> None:
        """What was due is done; what failed was logged, and will be tried the next time."""
        for name in sorted(self._volumes.told):
            volume = self._volumes.told.get(name)
            if volume is not None and volume.schedule:
                try:
                    self._keep_schedule(volume)
                except (PluginError, ExceptionGroup) as exc:
                    failure(log, exc)

    def _run(self) -> None:
        try:
            self.run()
        finally:
            self._running.release()

    def _keep_schedule(self, volume: Volume) -> None:
        schedule, now = parse_schedule(volume.schedule), self._now()
        if is_due(schedule, [made for made, _ in self._scheduled(volume)], now):
            request = SnapshotRequest(f"{volume.name}@auto-{now:%Y%m%dT%H%M%SZ}", Scheduled=True)
            self._snapshots.create_snapshot(request)
        taken = list(self._scheduled(volume))
        gone = expired(schedule, [made for made, _ in taken], now)
        for made, snapshot in taken:
            if made in gone:
                self._snapshots.remove_snapshot(SnapshotRequest(snapshot.id))

    def _scheduled(self, volume: Volume) -> Iterator[tuple[datetime, Snapshot]]:
        """Yield the snapshots that a schedule has taken. Others are somebody's, and never touched."""
        for snapshot in self._volumes.snapshots(volume.name):
            if snapshot.scheduled and snapshot.created_at is not None:
                yield snapshot.created_at, snapshot

    @contextmanager
    def _admitted(self, volumes: Sequence[Volume]) -> Iterator[None]:
        """Inside the block the disk of each has room for its snapshot. Raises: Exhausted."""
        needed: dict[str, int] = {}
        for volume in volumes:
            allocated = self._volumes.usage.allocated(self._volumes.layout.mount(volume))
            needed[pool_of(volume)] = needed.get(pool_of(volume), 0) + allocated
        with ExitStack() as stack:
            for volume in {pool_of(volume): volume for volume in volumes}.values():
                stack.enter_context(self._volumes.admitted(volume, needed[pool_of(volume)]))
            yield

    def _new(self, name: str, snapshot: str) -> tuple[Volume, Snapshot]:
        volume = self._volumes.known(name)
        if volume is None:
            raise not_found(name)
        loop = _check_loop(volume)
        if any(other.name == snapshot for other in self._volumes.snapshots(name)):
            raise Conflict(f"cannot make the snapshot {name}@{snapshot}: it exists; give another name")
        self._volumes.underway.check_idle("take a snapshot of", name)
        return volume, Snapshot(name, snapshot, loop.size)


METHODS = (
    Method("Snapshots.CreateGroup", GroupRequest, InstantDriver.create_group),
    Method("Schedules.Set", ScheduleRequest, InstantDriver.set_schedule),
)


def _check_loop(volume: Volume) -> Loop:
    if not isinstance(volume.options, Loop):
        raise BadRequest(f"cannot take a snapshot of {volume.name}: it is a directory of the host")
    return volume.options
