"""The volumes of one state directory: their records, what these mean, and what the engine has been told of them.

What the verbs of dockerd (`driver`) and those of the administrator (`admin/driver`) share. Callers hold the locks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from pluginkit import caller
from pluginkit.errors import Conflict, NotFound, PluginError, describe, is_expected
from pluginkit.log import failure
from pluginkit.reconcile import Aside, Kernel, Moved, Planned, Reconciler, untold
from pluginkit.store import Kind, Store
from volplugin import capacity
from volplugin.options import Loop, shown
from volplugin.plan import Layout
from volplugin.records import OWN_CALLER, Attachment, Pool, Snapshot, Trashed, Volume, parse_name
from volplugin.resources import BindMount, Mount
from volplugin.underway import Underway
from volplugin.usage import Usage

log = logging.getLogger(__name__)

VOLUME = Kind("volume", Volume, durable=True)
# A reboot ends every mount, so these records need not outlive it. The ID of an attachment is its volume's name.
ATTACHMENT = Kind("attachment", Attachment, durable=False)
# The ID of a snapshot is VOLUME@NAME.
SNAPSHOT = Kind("snapshot", Snapshot, durable=True)
TRASH = Kind("trash", Trashed, durable=True)
POOL = Kind("pool", Pool, durable=True)
ALL = (POOL, VOLUME, SNAPSHOT, ATTACHMENT, TRASH)


@dataclass(frozen=True)
class Policy:
    """What the administrator decides about every volume. trash: how long one that was removed can be had again."""

    default_size: int
    overcommit: capacity.Overcommit = capacity.NEVER
    trash: timedelta = timedelta()


class Volumes:
    """The records and the kernel behind them."""

    def __init__(
        self,
        store: Store,
        layout: Layout,
        kernels: Mapping[type[Any], Kernel],
        usage: Usage,
        policy: Policy,
        engine_runs: Callable[[str], bool] = caller.is_running,
        own: Callable[[], str] = caller.own,
        moved: Moved = untold,
    ) -> None:
        """own: returns the name of this process among those that `engine_runs` is asked for."""
        self.store = store
        self.layout = layout
        self.usage = usage
        self.policy = policy
        self.planned = Planned(VOLUME, layout.plan_volume)
        self.attachments = Planned(ATTACHMENT, layout.plan_attachment, parent=VOLUME)
        self.snapshots_planned = Planned(SNAPSHOT, layout.plan_snapshot, parent=VOLUME)
        self.trash_planned = Planned(TRASH, layout.plan_trashed)
        self.pools_planned = Planned(POOL, layout.plan_pool)
        kinds = (self.pools_planned, self.planned, self.snapshots_planned, self.attachments, self.trash_planned)
        self.reconciler = Reconciler(store, kinds, kernels, moved)
        # What the engine has been told of. dockerd forgets a volume's labels and options when Get answers it with any
        # error, so Get must not depend on a disk.
        self.told: dict[str, Volume] = {}
        self.pools: dict[str, Pool] = {}
        self.underway = Underway()
        self._engine_runs = engine_runs
        self._own = own()
        self._admission = threading.Lock()
        self._making: dict[tuple[str, str], Volume | Pool] = {}
        # Held while a pool is moved: whoever needs one mounts it, if it is not.
        self.pooling = threading.Lock()
        self._last_errors: dict[str, str] = {}

    def known(self, name: str) -> Volume | None:
        """Return the volume, if the engine may have been told of it."""
        row = self.store.get(VOLUME, name)
        if row is None or row.current is None or row.current.created_at is None:
            return None
        return row.current

    def check_unprotected(self, volume: Volume, operation: str) -> None:
        """Raises: Conflict: what is in the volume must not go."""
        if volume.protected:
            raise Conflict(
                f"cannot {operation} {volume.name}: it is protected; first: pyvol protect --off {volume.name}"
            )

    def told_of(self, name: str) -> Volume:
        """Return the volume that the engine has been told of. Raises: NotFound."""
        volume = self.told.get(parse_name(name))
        if volume is None:
            raise not_found(name)
        return volume

    def change(self, volume: Volume, aside: Aside = nullcontext) -> None:
        """The volume, which exists, is recorded and made as it is given."""
        self.reconciler.transition(self.planned, volume.name, volume, aside=aside)
        self.told[volume.name] = volume

    def snapshots(self, name: str) -> list[Snapshot]:
        """Return the snapshots of the volume that somebody may have been told of, the oldest first."""
        found = [row.current for row in self.store.rows(SNAPSHOT, parent=name)]
        made = [(snapshot.created_at, snapshot) for snapshot in found if snapshot and snapshot.created_at]
        return [snapshot for _, snapshot in sorted(made, key=lambda pair: (pair[0], pair[1].name))]

    def snapshot(self, volume: str, name: str) -> Snapshot:
        """Return the snapshot. Raises: NotFound."""
        for snapshot in self.snapshots(volume):
            if snapshot.name == name:
                return snapshot
        have = ", ".join(snapshot.name for snapshot in self.snapshots(volume)) or "none"
        raise NotFound(f"cannot find the snapshot {volume}@{name}: the snapshots of {volume} are: {have}")

    def attach(self, name: str, attachment: Attachment) -> None:
        """Exactly these have the volume, and it is mounted if anybody has it."""
        if not attachment.mounts:
            return self.drop(self.attachments, name)  # Whoever leaves need not find it whole.
        return self.reconciler.transition(self.attachments, name, attachment, parent=name)

    def detach(self, name: str, *, lazy: bool) -> None:
        """Nobody has the volume, and it is not mounted. lazy: processes that use it keep what they have open.

        Raises: ExceptionGroup: it is in use, and still mounted.
        """
        if lazy and self.is_attached(name):
            self.store.abandon(ATTACHMENT, name)
            # Two moves: what is taken down lazily is on record so first. If we die in between, our count is void.
            self.attach(name, replace(Attachment().mounted(OWN_CALLER, self._own), lazy=True))
        self.attach(name, Attachment())

    @contextmanager
    def busy(self, volume: Volume, what: str, makes: Sequence[str] = ()) -> Iterator[None]:
        """Inside the block the volume is mounted, whoever mounts and unmounts it, and does not otherwise change.

        makes: IDs of records that come of it. What could not be mounted is as it was.
        """
        name = volume.name
        with self.underway.doing(what, moves=makes, needs=(name,)):
            # Counted like an engine's: if we die meanwhile, it is void, and the next reconcile ends it.
            self.attach(name, self.attachment(name).mounted(OWN_CALLER, self._own))
            try:
                yield
            finally:
                self.attach(name, self.attachment(name).unmounted(OWN_CALLER, self._own))

    @contextmanager
    def copied(self, volume: Volume, makes: str, lend: Aside) -> Iterator[Aside]:
        """Inside the block the record `makes` may be moved to a copy of the volume, with what is yielded as `aside`.

        lend: gives up the locks of both.
        """
        what = f"{volume.name} is being copied to {makes}"
        self.underway.check_idle("copy", volume.name)
        if self.usage.has_reflinks(self.layout.disk(pool_of(volume))):
            yield nullcontext
        else:
            # Mounted, so that it can be frozen: nobody who mounts it meanwhile has to wait, only what he writes does.
            with self.busy(volume, what, (makes,)):
                yield lend

    def attachment(self, name: str) -> Attachment:
        """Return who has the volume mounted: nobody, if it is only still mounted because an unmount has failed."""
        row = self.store.get(ATTACHMENT, name)
        if row is None or row.current is None or self.is_going(ATTACHMENT, name):
            return Attachment()
        return row.current

    def is_attached(self, name: str) -> bool:
        """Tell whether the volume is mounted for anybody, or still is, or is about to be."""
        return self.store.get(ATTACHMENT, name) is not None

    def is_going(self, kind: Kind[Any], name: str) -> bool:
        """Tell whether a deletion of the record has begun and not ended."""
        row = self.store.get(kind, name)
        return row is not None and row.pending and row.next is None

    def still_valid(self, volume: Volume, attachment: Attachment, engine: str) -> Attachment:
        """Return `attachment` without the counts of dead engines, unless somebody but us has the volume mounted.

        Containers may outlive their engine (live-restore): while there is one, which counts are void cannot be told.
        The engine that asks is alive; if it cannot be told from others, its counts and theirs are alike.
        """
        dead = self.dead(attachment, engine)
        if not dead or self.usage.holders(self.layout.mount(volume)):
            return attachment
        return attachment.without(dead)

    def dead(self, attachment: Attachment, engine: str = "") -> set[str]:
        """Return the engines that have ended of those that have the volume, without the one that asks."""
        return {other for other in attachment.engines - {engine} if not self._engine_runs(other)}

    def check_unused(self, volume: Volume, engine: str, operation: str) -> None:
        """Raises: Conflict: somebody has the volume mounted."""
        callers = self.still_valid(volume, self.attachment(volume.name), engine).callers
        mount = self.layout.mount(volume)
        # A bound directory outlives its volume, and others may have it mounted who never heard of us.
        holders = self.usage.holders(mount) if isinstance(mount, Mount) else []
        if callers or holders:
            by = [*(f"caller {caller_id}" for caller_id in callers), *holders]
            raise Conflict(f"cannot {operation} {volume.name}: it is mounted; {'; '.join(by)}")

    @contextmanager
    def admitted(self, made: Volume | Pool, more_bytes: int) -> Iterator[None]:
        """Inside the block it counts, which needs so much more of its disk, and may have it by the policy.

        Raises: Exhausted: it does not fit; NotFound: there is no such pool.
        """
        pool = pool_of(made) if isinstance(made, Volume) else ""
        key = (type(made).__name__, made.name)
        # Others are created meanwhile, and must not be promised the same space.
        with self._admission:
            if pool:
                self.pool(pool)
            if more_bytes:
                sizes = (size for size, _ in self._claims(pool))
                free = self.usage.available(self.layout.disk(pool))
                capacity.check(self.policy.overcommit, free, sizes, lambda: self.growth(pool), made.name, more_bytes)
            self._making[key] = made
        try:
            yield
        finally:
            with self._admission:
                self._making.pop(key, None)

    def growth(self, pool: str = "") -> int:
        """Return the bytes by which what is in the pool, or in none, may still grow. Raises: KernelError."""
        claims = ((size, self.layout.mount_of(claimed)) for size, claimed in self._claims(pool))
        return capacity.growth(capacity.Claim(size, self.usage.allocated(mount)) for size, mount in claims)

    def pool(self, name: str) -> Pool:
        """Return the pool. Raises: NotFound."""
        found = self.pools.get(name)
        if found is None:
            have = ", ".join(sorted(self.pools)) or "none"
            raise NotFound(f"cannot find the pool {name}: the pools are: {have}; pyvol pool create makes one")
        return found

    def reach(self, volume: Volume) -> None:
        """The pool that the volume is in, if it is in one, is mounted. Raises: NotFound, KernelError."""
        if name := pool_of(volume):
            self.mount_pool(name)

    def mount_pool(self, name: str) -> None:
        """The pool is mounted. Raises: NotFound, KernelError."""
        with self.pooling:
            pool = self.pool(name)
            if not self.usage.is_there(self.layout.disk(name)):
                self.reconciler.transition(self.pools_planned, name, pool)

    def change_pool(self, pool: Pool) -> None:
        """The pool is recorded and made as it is given."""
        with self.pooling:
            self.reconciler.transition(self.pools_planned, pool.name, pool)
        self.pools[pool.name] = pool

    def remove_pool(self, name: str) -> None:
        """The pool and its file are gone. Raises: NotFound; Conflict: something is in it; KernelError."""
        # What was withdrawn before, and could not be taken down, is tried again.
        if not self.is_going(POOL, name):
            self.pool(name)
            if not self.usage.is_lost(self.layout.disk(name)):
                # What is not mounted looks empty.
                self.mount_pool(name)
            with self._admission:
                if inside := self.inside(name):
                    raise Conflict(f"cannot remove the pool {name}: in it are {', '.join(inside)}; remove them first")
                # Nothing comes into it any more.
                del self.pools[name]
        with self.pooling:
            self.drop(self.pools_planned, name)

    def drop(self, planned: Planned[Any], record_id: str) -> None:
        """The record is gone, also if a change of it was begun that can be neither finished nor undone."""
        row = self.store.get(planned.kind, record_id)
        if row is not None and row.pending and row.current is not None and row.next is not None:
            self.store.abandon(planned.kind, record_id)
        self.reconciler.transition(planned, record_id, None)

    def clear(self, planned: Planned[Any], name: str, mount: Mount | BindMount) -> None:
        """What an earlier attempt to make it has left is gone, for that is nobody's.

        Raises: Conflict: there is data of that name of which no record tells whose it is.
        """
        self.reconciler.transition(planned, name, None)
        if isinstance(mount, Mount) and self.usage.is_taken(mount):
            place = mount.path.parent
            raise Conflict(
                f"cannot make {name}: there is data in {place} that no record knows; look at it, move it away"
            )

    def inside(self, pool: str) -> list[str]:
        """Return what is in the pool: volumes, what is in the trash, and data that no record knows."""
        rows = self.store.rows(VOLUME)
        volumes = {row.id for row in rows if any(each and pool_of(each) == pool for each in (row.current, row.next))}
        volumes |= {
            made.name for made in tuple(self._making.values()) if isinstance(made, Volume) and pool_of(made) == pool
        }
        trashed = [row.id for row in self.store.rows(TRASH) if row.current and pool_of(row.current.volume) == pool]
        unknown = set(self.usage.volumes(self.layout.disk(pool))) - volumes
        return [*sorted(volumes), *trashed, *(f"data of {name}" for name in sorted(unknown))]

    @contextmanager
    def remembering(self, name: str) -> Iterator[None]:
        """An error that left the block is from now on the last one of the volume of that name."""
        try:
            yield
        except Exception as exc:
            if is_expected(exc) and name in self.told:
                self._last_errors[name] = describe(exc)
            raise

    def forget(self, name: str) -> None:
        """Nobody is told of the volume any more."""
        self.told.pop(name, None)
        self._last_errors.pop(name, None)

    def status(self, volume: Volume) -> dict[str, Any]:
        """Return what is said of a volume without a look at its files; what cannot be read is said to be a problem."""
        status: dict[str, Any] = dict(shown(volume.options))
        if what := self.underway.describe(volume.name):
            status["underway"] = what
        if isinstance(volume.options, Loop) and volume.options.encrypt:
            status["encrypted"] = True
        if volume.protected:
            status["protected"] = True
        if volume.schedule:
            status["schedule"] = volume.schedule
        try:
            status["mounts"] = self.attachment(volume.name).callers
            if snapshots := self.snapshots(volume.name):
                status["snapshots"] = [snapshot.name for snapshot in snapshots]
            if self.is_going(VOLUME, volume.name):
                status["problem"] = "its removal has begun and could not be finished yet"
        except PluginError as exc:
            status["problem"] = str(exc)
        if (last := self._last_errors.get(volume.name)) is not None:
            status["last_error"] = last
        return status

    def full_status(self, volume: Volume) -> dict[str, Any]:
        """Return that, and what its files and its filesystem say. Never fails: it is asked for ill volumes, too."""
        status = self.status(volume)
        if isinstance(volume.options, Loop):
            status["size_bytes"] = volume.options.size
        try:
            status.update(self.usage.space(self.layout.mount(volume)))
            self.usage.check_key(self.layout.mount(volume))
        except PluginError as exc:
            status["problem"] = str(exc)
        status["health"] = "problem" if "problem" in status else "ok"
        return status

    def tried(self, planned: Planned[Any], record_id: str, new: Any) -> Iterator[Exception]:
        """The record was moved, or the error has been logged and is yielded."""
        try:
            self.reconciler.transition(planned, record_id, new)
        except (PluginError, ExceptionGroup) as exc:
            failure(log, exc)
            yield exc

    def _claims(self, pool: str) -> Iterator[tuple[int, Volume | Pool]]:
        """Yield, with its size, what has one, lies in the pool or in none, or is just being made there."""
        making = [made for made in tuple(self._making.values()) if isinstance(made, Volume)]
        for volume in (self.told | {made.name: made for made in making}).values():
            if isinstance(volume.options, Loop) and volume.options.pool == pool:
                yield volume.options.size, volume
        if not pool:
            growing = [made for made in tuple(self._making.values()) if isinstance(made, Pool)]
            for each in (self.pools | {made.name: made for made in growing}).values():
                yield each.size, each


def pool_of(volume: Volume) -> str:
    """Return the name of the pool that the volume is in; "": it is in none."""
    return volume.options.pool if isinstance(volume.options, Loop) else ""


def pool_lock(name: str) -> str:
    """Return the key of the lock of a pool. No volume has such a name."""
    return f".pool {name}"


def not_found(name: str) -> NotFound:
    """Return the error that says that there is no such volume."""
    return NotFound(f"cannot find the volume {name}: there is none of that name")
