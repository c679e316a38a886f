"""What was cut short is settled, volume by volume: the others are used meanwhile.

How long somebody has to wait for it must not depend on how many volumes there are. So the locks of one are held at a
time, with what is its. Only if there is something to sweep does everybody wait, for that is nobody's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pluginkit.errors import Unavailable
from pluginkit.locks import Locks
from pluginkit.log import failure
from pluginkit.reconcile import Outcome
from pluginkit.store import Kind, Row
from volplugin.options import Loop
from volplugin.records import Attachment, Pool, Snapshot, Volume, parse_origin, parse_snapshot_id
from volplugin.upkeep.trash import Trash
from volplugin.volumes import ATTACHMENT, POOL, SNAPSHOT, TRASH, VOLUME, Volumes, pool_lock

log = logging.getLogger(__name__)

_OPENED_WITHIN = timedelta(minutes=1)


class Settling:
    """Reconciles the records of volumes with the kernel. locks: those of the engine's driver."""

    def __init__(self, volumes: Volumes, locks: Locks, trash: Trash) -> None:
        self._volumes = volumes
        self._locks = locks
        self._trash = trash
        self._turns = _Turns(volumes, locks)

    def reconcile(self) -> Outcome:
        """Every record is settled and in the kernel, and nothing else of ours is but finished data without a record.

        Each volume is locked only while it has its turn.
        """
        failures = [
            # First: what is to be taken down may lie in them.
            *self._settle(POOL, self._is_pool_missing, self._settle_pool),
            *self._settle(VOLUME, _is_half_made, self._drop_volume),
            *self._settle(VOLUME, self._trash.is_arriving, self._trash.arrive),
            *self._settle_groups(),
            *self._settle(SNAPSHOT, _is_nobodys, self._drop_snapshot),
            *self._settle(VOLUME, _is_restored, self._end_restoring),
            *self._settle(ATTACHMENT, self._has_dead, self._drop_dead),
        ]
        outcome = self._volumes.reconciler.reconcile(self._turns)
        for pool in ("", *self._volumes.pools):
            found = self._volumes.usage.volumes(self._volumes.layout.disk(pool))
            for name in set(found) - {row.id for row in self._volumes.store.rows(VOLUME)}:
                log.warning("there is data of a volume %s that no record knows: it is left alone", name)
        return replace(outcome, failures=(*failures, *outcome.failures))

    def _settle(
        self, kind: Kind[Any], due: Callable[[Row[Any]], bool], move: Callable[[Row[Any]], Iterator[Exception]]
    ) -> Iterator[Exception]:
        """Every record that was due had its move; yield what went wrong instead."""
        for seen in self._volumes.store.rows(kind):
            if due(seen):
                try:
                    with self._turns.one(kind.name, seen.id):
                        row = self._volumes.store.get(kind, seen.id)
                        if row is not None and due(row):
                            yield from move(row)
                except Unavailable as exc:
                    failure(log, exc)
                    yield exc

    def _settle_groups(self) -> Iterator[Exception]:
        """Snapshots that were cut short before all of their instant were finished are gone, these like those."""
        for group in self._unfinished_groups():
            try:
                with self._locks.hold(*{parse_snapshot_id(each)[0] for each in group.split()}):
                    if group in self._unfinished_groups():
                        # The unfinished last, for they tell of it, if we are cut short here.
                        for row in sorted(self._members(group), key=_is_nobodys):
                            yield from self._drop_snapshot(row)
            except Unavailable as exc:
                failure(log, exc)
                yield exc

    def _unfinished_groups(self) -> set[str]:
        made = [row.current or row.next for row in self._volumes.store.rows(SNAPSHOT)]
        return {each.group for each in made if each is not None and each.created_at is None} - {""}

    def _members(self, group: str) -> list[Row[Snapshot]]:
        """Return the snapshots of the group; those of which nothing was committed end by themselves."""
        rows = [self._volumes.store.get(SNAPSHOT, each) for each in group.split()]
        return [row for row in rows if row is not None and row.current is not None and row.current.group == group]

    def _drop_snapshot(self, row: Row[Snapshot]) -> Iterator[Exception]:
        return self._volumes.tried(self._volumes.snapshots_planned, row.id, None)

    def _drop_volume(self, row: Row[Volume]) -> Iterator[Exception]:
        return self._volumes.tried(self._volumes.planned, row.id, None)

    def _end_restoring(self, row: Row[Volume]) -> Iterator[Exception]:
        assert row.current is not None
        return self._volumes.tried(self._volumes.planned, row.id, replace(row.current, restoring=None))

    def _is_pool_missing(self, row: Row[Pool]) -> bool:
        """Tell whether the making of the pool was cut short between its two moves, or it is not mounted."""
        if row.current is None or (row.pending and row.next is None):
            return False
        return row.current.created_at is None or not self._volumes.usage.is_there(self._volumes.layout.disk(row.id))

    def _settle_pool(self, row: Row[Pool]) -> Iterator[Exception]:
        """The pool is mounted, or gone if its making was cut short."""
        made = row.current if row.current is not None and row.current.created_at is not None else None
        return self._volumes.tried(self._volumes.pools_planned, row.id, made)

    def _has_dead(self, row: Row[Attachment]) -> bool:
        return row.current is not None and not row.pending and bool(self._volumes.dead(row.current))

    def _drop_dead(self, row: Row[Attachment]) -> Iterator[Exception]:
        """The mounts of engines that died are gone, if nobody uses the volume."""
        volume = self._volumes.known(row.id)
        if volume is not None and row.current is not None:
            left = self._volumes.still_valid(volume, row.current, engine="")
            if left != row.current:
                yield from self._volumes.tried(self._volumes.attachments, row.id, left if left.mounts else None)


class _Turns:
    """The locks of a volume and what is its, of a pool, or of something in the trash, as reconcile takes them."""

    def __init__(self, volumes: Volumes, locks: Locks) -> None:
        self._volumes = volumes
        self._locks = locks

    @contextmanager
    def one(self, kind: str, record_id: str) -> Iterator[Collection[str]]:
        """Inside the block nobody else moves it, nor its children; what long work is about is to be left alone."""
        pooling = self._volumes.pooling if kind == POOL.name else nullcontext()
        with self._locks.hold(*self._keys(kind, record_id)), pooling:
            yield self._volumes.underway.ids()
            if kind == VOLUME.name:
                self._learn_volume(record_id)
            elif kind == POOL.name:
                self._learn_pool(record_id)

    def everything(self) -> AbstractContextManager[None]:
        """Inside the block no verb is at work."""
        return self._locks.hold_all()

    def _learn_volume(self, name: str) -> None:
        """The engine is told of the volume if it is on record as made, and else not."""
        volume = self._volumes.known(name)
        if volume is None:
            self._volumes.forget(name)
        else:
            self._volumes.told[name] = volume

    def _learn_pool(self, name: str) -> None:
        """Volumes may be made in the pool if it is on record as made, and else not."""
        row = self._volumes.store.get(POOL, name)
        if row is None or row.current is None or row.current.created_at is None or (row.pending and row.next is None):
            self._volumes.pools.pop(name, None)
        else:
            self._volumes.pools[name] = row.current

    def _keys(self, kind: str, record_id: str) -> set[str]:
        if kind == POOL.name:
            return {pool_lock(record_id)}
        if kind == TRASH.name:
            return {record_id, record_id.partition("~")[0]}
        name = record_id.partition("@")[0]
        row = self._volumes.store.get(VOLUME, name)
        keys = {name}
        for volume in (row.current, row.next) if row is not None else ():
            if volume is not None:
                keys |= {volume.trash} - {""}
                # A copy that was cut short may have left the frozen.
                if isinstance(volume.options, Loop) and volume.options.origin:
                    keys.add(parse_origin(volume.options.origin)[0])
        return keys


def _is_half_made(row: Row[Volume]) -> bool:
    """Tell whether the Create was cut short between its two moves: nobody was told of it."""
    return row.current is not None and row.current.created_at is None


def _is_restored(row: Row[Volume]) -> bool:
    return row.current is not None and row.current.restoring is not None and not row.pending


def _is_nobodys(row: Row[Snapshot]) -> bool:
    """Tell whether the snapshot was cut short between its two moves, or nobody opened it in time."""
    return row.current is not None and (row.current.created_at is None or _is_forgotten(row.current))


def _is_forgotten(snapshot: Snapshot) -> bool:
    """Tell whether whoever asked for the snapshot had the time to open it."""
    made = snapshot.created_at
    return snapshot.transient and made is not None and datetime.now(UTC) - made > _OPENED_WITHIN
