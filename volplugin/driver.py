"""The verbs of VolumeDriver: each is a move from one record to the next.

Mounts are counted by caller ID, because `docker cp` mounts with the ID of the running container and unmounts once. An
engine that was killed never unmounts, and mounts again with the same ID. So each count remembers the engine process
that made it, and counts of a dead process are void when nobody but us has the volume mounted; only then is the kernel
asked.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from pluginkit import caller
from pluginkit.errors import Conflict, NotFound, PluginError
from pluginkit.locks import Locks
from pluginkit.log import failure
from pluginkit.reconcile import Kernel, Outcome, Planned, Reconciler
from pluginkit.server import Method
from pluginkit.store import Kind, Store
from volplugin import capacity
from volplugin.options import DEFAULT_SIZE_BYTES, Loop, differing, parse_options, shown
from volplugin.plan import Layout
from volplugin.records import Attachment, Volume, parse_caller_id, parse_name
from volplugin.resources import BindMount, Mount
from volplugin.wire import (
    CapabilitiesAnswer,
    Capability,
    CreateRequest,
    GetAnswer,
    ListAnswer,
    MountpointAnswer,
    MountRequest,
    VolumeInfo,
    VolumeRequest,
)

log = logging.getLogger(__name__)

VOLUME = Kind("volume", Volume, durable=True)
# A reboot ends every mount, so these records need not outlive it. The ID of an attachment is its volume's name.
ATTACHMENT = Kind("attachment", Attachment, durable=False)


class Usage(Protocol):
    """What the driver asks of the machine and never records."""

    def holders(self, mount: Mount | BindMount) -> list[str]:
        """Return, in words, where other than at our own mount point the volume is mounted."""

    def space(self, mount: Mount | BindMount) -> dict[str, int | bool]:
        """Return the bytes that the volume takes. Raises: KernelError."""

    def available(self) -> int:
        """Return the bytes that volumes may still take of the disk. Raises: KernelError."""

    def allocated(self, mount: Mount | BindMount) -> int:
        """Return the bytes that the volume takes of the disk. Raises: KernelError."""

    def volumes(self) -> list[str]:
        """Return the names of the volumes whose data is there, recorded or not."""


class VolumeDriver:
    """All volumes of one state directory."""

    def __init__(
        self,
        store: Store,
        layout: Layout,
        kernels: Mapping[type[Any], Kernel],
        usage: Usage,
        default_size: int = DEFAULT_SIZE_BYTES,
        overcommit: capacity.Overcommit = capacity.NEVER,
        engine: Callable[[], str] = caller.current,
        engine_runs: Callable[[str], bool] = caller.is_running,
    ) -> None:
        """engine: returns which engine process sent the request that this thread answers."""
        self._store = store
        self._layout = layout
        self._usage = usage
        self._default_size = default_size
        self._overcommit = overcommit
        self._admission = threading.Lock()
        self._making: dict[str, Volume] = {}
        self._engine = engine
        self._engine_runs = engine_runs
        self._locks = Locks()
        self._volumes = Planned(VOLUME, layout.plan_volume)
        self._attachments = Planned(ATTACHMENT, layout.plan_attachment, parent=VOLUME)
        self._reconciler = Reconciler(store, (self._volumes, self._attachments), kernels)
        # What the engine has been told of. dockerd forgets a volume's labels and options when Get answers it with any
        # error, so Get must not depend on a disk.
        self._told: dict[str, Volume] = {}

    def methods(self) -> list[Method]:
        """Return every method of VolumeDriver."""
        return [
            Method("VolumeDriver.Create", CreateRequest, self.create),
            Method("VolumeDriver.Remove", VolumeRequest, self.remove),
            Method("VolumeDriver.Mount", MountRequest, self.mount),
            Method("VolumeDriver.Unmount", MountRequest, self.unmount),
            Method("VolumeDriver.Path", VolumeRequest, self.path),
            # dockerd forgets a volume's labels and options on any answer that is not the volume.
            Method("VolumeDriver.Get", VolumeRequest, self.get, hang_up=True),
            Method("VolumeDriver.List", None, self.list),
            Method("VolumeDriver.Capabilities", None, self.capabilities),
        ]

    def create(self, request: CreateRequest) -> None:
        """The volume exists with these options, formatted; nothing was done if it already did."""
        name, given = parse_name(request.Name), request.Opts or {}
        options = parse_options(given, self._default_size)
        with self._locks.hold(name):
            known = self._known(name)
            if known is not None:
                self._check_same(known, given)
                return
            # What an earlier Create left unfinished, perhaps with other options, is nobody's.
            self._reconciler.transition(self._volumes, name, None)
            # Two moves: a volume that may be made from nothing, and one that has been made and may not be again.
            volume = Volume(name, options)
            with self._admitted(volume):
                self._reconciler.transition(self._volumes, name, volume)
            created_at = datetime.now(UTC).replace(microsecond=0)
            volume = replace(volume, created_at=created_at)
            self._reconciler.transition(self._volumes, name, volume)
            self._told[name] = volume

    def remove(self, request: VolumeRequest) -> None:
        """The volume and its data do not exist, whether they ever did or not; a bound directory is left alone.

        Raises: Conflict: somebody has it mounted.
        """
        name = parse_name(request.Name)
        with self._locks.hold(name):
            volume = self._known(name)
            if volume is not None:
                self._check_unused(volume)
                self._reconciler.transition(self._attachments, name, None)
            self._reconciler.transition(self._volumes, name, None)
            self._told.pop(name, None)

    def mount(self, request: MountRequest) -> MountpointAnswer:
        """The volume is mounted, and this caller has it once more."""
        name, caller_id, engine = parse_name(request.Name), parse_caller_id(request.ID), self._engine()
        with self._locks.hold(name):
            volume = self._known(name)
            if volume is None:
                raise _not_found(name)
            if self._is_going(VOLUME, name):
                raise Conflict(f"cannot mount {name}: its removal has begun; repeat 'docker volume rm {name}'")
            attachment = self._still_valid(volume, self._attachment(name), engine).mounted(caller_id, engine)
            if self._is_going(ATTACHMENT, name):
                # The last unmount found the volume busy; to be mounted again it need not have been unmounted.
                self._store.abandon(ATTACHMENT, name)
            self._reconciler.transition(self._attachments, name, attachment, parent=name)
            return MountpointAnswer(self._layout.mountpoint(volume))

    def unmount(self, request: MountRequest) -> None:
        """This caller has the volume once less, and with the last one it is not mounted. Success if it never had it."""
        name, caller_id, engine = parse_name(request.Name), parse_caller_id(request.ID), self._engine()
        with self._locks.hold(name):
            volume = self._known(name)
            if volume is not None:
                left = self._still_valid(volume, self._attachment(name).unmounted(caller_id, engine), engine)
                self._reconciler.transition(self._attachments, name, left if left.mounts else None, parent=name)

    def path(self, request: VolumeRequest) -> MountpointAnswer:
        """Return where the volume is while it is mounted."""
        return MountpointAnswer(self._layout.mountpoint(self._told_of(request.Name)))

    def get(self, request: VolumeRequest) -> GetAnswer:
        """Return what is known of the volume, ill or not: dockerd forgets a volume that it gets an error for."""
        volume = self._told_of(request.Name)
        info = self._info(volume)
        try:
            info.Status.update(self._usage.space(self._layout.mount(volume)))
        except PluginError as exc:
            info.Status["problem"] = str(exc)
        return GetAnswer(info)

    def list(self) -> ListAnswer:
        """Return all volumes by name, ill or not."""
        return ListAnswer([self._info(volume) for _, volume in sorted(self._told.items())])

    def capabilities(self) -> CapabilitiesAnswer:
        """Return that volumes exist on this host only."""
        return CapabilitiesAnswer(Capability())

    def reconcile(self) -> Outcome:
        """Every record is settled and in the kernel, and nothing else of ours is but finished data without a record."""
        with self._locks.hold_all():
            failures = [*self._settle_creates(), *self._settle_mounts()]
            outcome = self._reconciler.reconcile()
            rows = self._store.rows(VOLUME)
            self._told = {row.id: row.current for row in rows if row.current and row.current.created_at}
            for name in set(self._usage.volumes()) - {row.id for row in rows}:
                log.warning("there is data of a volume %s that no record knows: it is left alone", name)
        return replace(outcome, failures=(*failures, *outcome.failures))

    def disk(self) -> tuple[int, int]:
        """Return the bytes available on the disk, and those by which volumes may still grow.

        Raises: KernelError, StateError, Unavailable.
        """
        return self._usage.available(), capacity.growth(self._claims())

    @contextmanager
    def _admitted(self, volume: Volume) -> Iterator[None]:
        """Inside the block the volume, which fits on the disk as the policy says, counts as one of the volumes.

        Raises: Exhausted: it does not fit.
        """
        if isinstance(volume.options, Loop):
            # Others are created meanwhile, and must not be promised the same space.
            with self._admission:
                claims = self._claims()
                capacity.check(self._overcommit, self._usage.available(), claims, volume.name, volume.options.size)
                self._making[volume.name] = volume
        try:
            yield
        finally:
            with self._admission:
                self._making.pop(volume.name, None)

    def _claims(self) -> Sequence[capacity.Claim]:
        recorded = {row.id: row.current or row.next for row in self._store.rows(VOLUME)}
        return [
            capacity.Claim(volume.options.size, self._usage.allocated(self._layout.mount(volume)))
            for volume in (recorded | self._making).values()
            if volume is not None and isinstance(volume.options, Loop)
        ]

    def _settle_creates(self) -> Iterator[Exception]:
        """Volumes whose Create was cut short between its two moves are gone: nobody was told of them."""
        for row in self._store.rows(VOLUME):
            if row.current is not None and row.current.created_at is None:
                yield from self._tried(self._volumes, row.id, None)

    def _settle_mounts(self) -> Iterator[Exception]:
        """Mounts of engines that died, of volumes that nobody uses, are gone."""
        for row in self._store.rows(ATTACHMENT):
            volume = self._known(row.id)
            if volume is not None and row.current is not None and not row.pending:
                left = self._still_valid(volume, row.current, engine="")
                if left != row.current:
                    yield from self._tried(self._attachments, row.id, left if left.mounts else None)

    def _tried(self, planned: Planned[Any], record_id: str, new: Any) -> Iterator[Exception]:
        try:
            self._reconciler.transition(planned, record_id, new)
        except (PluginError, ExceptionGroup) as exc:
            failure(log, exc)
            yield exc

    def _known(self, name: str) -> Volume | None:
        """Return the volume, if the engine may have been told of it."""
        row = self._store.get(VOLUME, name)
        if row is None or row.current is None or row.current.created_at is None:
            return None
        return row.current

    def _told_of(self, name: str) -> Volume:
        """Return the volume that the engine has been told of. Raises: NotFound."""
        volume = self._told.get(parse_name(name))
        if volume is None:
            raise _not_found(name)
        return volume

    def _attachment(self, name: str) -> Attachment:
        """Return who has the volume mounted: nobody, if it is only still mounted because an unmount has failed."""
        row = self._store.get(ATTACHMENT, name)
        if row is None or row.current is None or self._is_going(ATTACHMENT, name):
            return Attachment()
        return row.current

    def _is_going(self, kind: Kind[Any], name: str) -> bool:
        """Tell whether a deletion of the record has begun and not ended."""
        row = self._store.get(kind, name)
        return row is not None and row.pending and row.next is None

    def _still_valid(self, volume: Volume, attachment: Attachment, engine: str) -> Attachment:
        """Return `attachment` without the counts of dead engines, unless somebody but us has the volume mounted.

        Containers may outlive their engine (live-restore): while there is one, which counts are void cannot be told.
        The engine that asks is alive; if it cannot be told from others, its counts and theirs are alike.
        """
        dead = {other for other in attachment.engines - {engine} if not self._engine_runs(other)}
        if not dead or self._usage.holders(self._layout.mount(volume)):
            return attachment
        return attachment.without(dead)

    def _check_unused(self, volume: Volume) -> None:
        """Raises: Conflict: somebody has the volume mounted."""
        callers = self._still_valid(volume, self._attachment(volume.name), self._engine()).callers
        mount = self._layout.mount(volume)
        # A bound directory outlives its volume, and others may have it mounted who never heard of us.
        holders = self._usage.holders(mount) if isinstance(mount, Mount) else []
        if callers or holders:
            by = [*(f"caller {caller_id}" for caller_id in callers), *holders]
            raise Conflict(f"cannot remove {volume.name}: it is mounted; {'; '.join(by)}")

    def _check_same(self, known: Volume, given: Mapping[str, str]) -> None:
        """Raises: Conflict: the volume has other options than were given."""
        wanted = parse_options(given, self._default_size, known.options)
        if differing(known.options, wanted):
            have, want = shown(known.options), shown(wanted)
            keys = ", ".join(
                f"{key}={have.get(key, 'unset')}, not {want.get(key, 'unset')}"
                for key in differing(known.options, wanted)
            )
            raise Conflict(f"cannot create {known.name}: it exists with other options: {keys}")

    def _info(self, volume: Volume) -> VolumeInfo:
        """Return what is said of a volume; whatever cannot be read is said to be a problem."""
        assert volume.created_at is not None
        status: dict[str, Any] = dict(shown(volume.options))
        try:
            status["mounts"] = self._attachment(volume.name).callers
            if self._is_going(VOLUME, volume.name):
                status["problem"] = "its removal has begun and could not be finished yet"
        except PluginError as exc:
            status["problem"] = str(exc)
        return VolumeInfo(volume.name, self._layout.mountpoint(volume), volume.created_at, status)


def _not_found(name: str) -> NotFound:
    return NotFound(f"cannot find the volume {name}: there is none of that name")
