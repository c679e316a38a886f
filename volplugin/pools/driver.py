"""The verbs of pools. A pool is a record like a volume, but always mounted: the files of its volumes lie in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pluginkit.errors import BadRequest, Conflict, PluginError
from pluginkit.locks import Locks
from pluginkit.server import Method, bound
from volplugin.options import MIN_SIZE_BYTES
from volplugin.pools.wire import PoolCreateRequest, PoolGrowRequest, PoolInfo, PoolRemoveRequest, PoolsAnswer
from volplugin.records import Pool
from volplugin.upkeep.trash import Trash
from volplugin.values import format_size, parse_pool, parse_size
from volplugin.volumes import Volumes, pool_lock, pool_of

# Those in which files can share blocks.
FILESYSTEMS = ("xfs", "btrfs")


class PoolDriver:
    """All pools of one state directory. locks: those of the engine's driver."""

    def __init__(self, volumes: Volumes, locks: Locks) -> None:
        self._volumes = volumes
        self._locks = locks

    def methods(self) -> tuple[Method, ...]:
        """Return every method, as this driver answers it."""
        return bound(METHODS, self)

    def create(self, request: PoolCreateRequest) -> None:
        """There is a pool of that name, and volumes may be made in it.

        Raises: Conflict: there was one; BadRequest; Exhausted: the disk has no room for it.
        """
        name, size = _parse_name(request.Name), _parse_size(request.Size)
        if request.Fs not in FILESYSTEMS:
            raise BadRequest(f"cannot use --fs {request.Fs[:80]} for a pool: it takes {' or '.join(FILESYSTEMS)}")
        if size < MIN_SIZE_BYTES[request.Fs]:
            least = format_size(MIN_SIZE_BYTES[request.Fs])
            raise BadRequest(f"cannot make the pool {name} of {request.Size}: {request.Fs} needs at least {least}")
        with self._locks.hold(pool_lock(name)):
            if name in self._volumes.pools:
                raise Conflict(f"cannot make the pool {name}: it exists; pyvol pool grow makes it larger")
            pool = Pool(name, request.Fs, size, not request.Allocate)
            self._volumes.clear(self._volumes.pools_planned, name, self._volumes.layout.pool_mount(pool))
            with self._volumes.admitted(pool, size):
                # Two moves, as for a volume: one that may be made of nothing, and one that never may be again.
                self._volumes.reconciler.transition(self._volumes.pools_planned, name, pool)
                self._volumes.change_pool(replace(pool, created_at=datetime.now(UTC).replace(microsecond=0)))

    def list(self) -> PoolsAnswer:
        """Return all pools with what can be known of them."""
        return PoolsAnswer(tuple(self._info(pool) for _, pool in sorted(self._volumes.pools.items())))

    def grow(self, request: PoolGrowRequest) -> None:
        """The pool has that size; volumes in it are used meanwhile.

        Raises: NotFound; BadRequest: it would be smaller; Exhausted: the disk has no room.
        """
        name, size = _parse_name(request.Name), _parse_size(request.Size)
        with self._locks.hold(pool_lock(name)):
            pool = self._volumes.pool(name)
            if size < pool.size:
                raise BadRequest(f"cannot shrink the pool {name}, which has {format_size(pool.size)}: pools only grow")
            grown = replace(pool, size=size)
            # Also if the size is the same: what could not be done then may be possible now.
            with self._volumes.admitted(grown, size - pool.size):
                self._volumes.change_pool(grown)

    def remove(self, request: PoolRemoveRequest) -> None:
        """The pool and its file are gone.

        Raises: NotFound; Conflict: something is in it, or its file is not lost although it should be; KernelError.
        """
        name = _parse_name(request.Name)
        names = self._volumes_in(name) if request.Lost else ()
        # What is in a lost pool does not become more: it cannot be mounted.
        with self._locks.hold(pool_lock(name), *names):
            if request.Lost:
                self._give_up(name)
            self._volumes.remove_pool(name)

    def _give_up(self, pool: str) -> None:
        """Nobody is told any more of what was in the pool, whose file is lost. Raises: Conflict; KernelError."""
        disk = self._volumes.layout.disk(pool)
        self._volumes.pool(pool)
        if not self._volumes.usage.is_lost(disk):
            raise Conflict(f"cannot give up the pool {pool}: its file is where it should be; leave out --lost")
        found = [self._volumes.told_of(name) for name in self._volumes_in(pool)]
        for volume in found:
            self._volumes.underway.check_idle("give up", volume.name)
            self._volumes.check_unused(volume, "", "give up")
        drop = self._volumes.drop
        for volume in found:
            for snapshot in self._volumes.snapshots(volume.name):
                drop(self._volumes.snapshots_planned, snapshot.id)
            drop(self._volumes.attachments, volume.name)
            drop(self._volumes.planned, volume.name)
            self._volumes.forget(volume.name)
        trash = Trash(self._volumes)
        for trashed in trash.content():
            if pool_of(trashed.volume) == pool:
                trash.drop(trashed)

    def _volumes_in(self, pool: str) -> tuple[str, ...]:
        told = tuple(self._volumes.told.items())
        return tuple(sorted(name for name, volume in told if pool_of(volume) == pool))

    def _info(self, pool: Pool) -> PoolInfo:
        status: dict[str, Any] = {"fs": pool.fs, "size_bytes": pool.size, "sparse": pool.sparse}
        try:
            status |= self._volumes.usage.space(self._volumes.layout.pool_mount(pool))
            status["growth_bytes"] = self._volumes.growth(pool.name)
            if not self._volumes.usage.is_there(self._volumes.layout.disk(pool.name)):
                status["problem"] = "it is not mounted; the log of pyvol tells why"
        except PluginError as exc:
            status["problem"] = str(exc)
        status["health"] = "problem" if "problem" in status else "ok"
        return PoolInfo(pool.name, self._volumes_in(pool.name), status)


METHODS = (
    Method("Pools.Create", PoolCreateRequest, PoolDriver.create),
    Method("Pools.List", None, PoolDriver.list),
    Method("Pools.Grow", PoolGrowRequest, PoolDriver.grow),
    Method("Pools.Remove", PoolRemoveRequest, PoolDriver.remove),
)


def _parse_name(text: str) -> str:
    try:
        return parse_pool(text)
    except ValueError as exc:
        raise BadRequest(
            f"cannot use {text[:80]!r} as a pool's name: it takes 1 to 63 letters, digits, '_', '.' and '-', and starts"
            " with a letter or a digit"
        ) from exc


def _parse_size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as exc:
        raise BadRequest(f"cannot use {text[:80]!r} as a size: it takes a number with a unit, such as 20G") from exc
