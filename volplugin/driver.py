"""The verbs of VolumeDriver: each is a move from one record to the next.

Mounts are counted by caller ID, because `docker cp` mounts with the ID of the running container and unmounts once. An
engine that was killed never unmounts, and mounts again with the same ID. So each count remembers the engine process
that made it, and counts of a dead process are void when nobody but us has the volume mounted; only then is the kernel
asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from pluginkit import caller
from pluginkit.errors import BadRequest, Conflict, PluginError
from pluginkit.locks import Locks
from pluginkit.log import failure
from pluginkit.reconcile import Aside, Outcome
from pluginkit.server import Method
from volplugin.options import Loop, differing, parse_options, shown
from volplugin.records import Attachment, Volume, parse_caller_id, parse_name, parse_origin
from volplugin.settling.driver import Settling
from volplugin.upkeep.trash import Trash
from volplugin.volumes import ATTACHMENT, VOLUME, Volumes, not_found
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


class VolumeDriver:
    """All volumes of one state directory."""

    def __init__(self, volumes: Volumes, engine: Callable[[], str] = caller.current) -> None:
        """engine: returns which engine process sent the request that this thread answers."""
        self.locks = Locks()
        self._volumes = volumes
        self._trash = Trash(volumes)
        self._settling = Settling(volumes, self.locks, self._trash)
        self._engine = engine

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
        origin = parse_origin(given["from"])[0] if given.get("from") else name
        with self.locks.hold(name, origin), self._volumes.remembering(name):
            known = self._volumes.known(name)
            if known is not None:
                self._check_same(known, given)
                return
            self._volumes.underway.check_idle("create", name)
            options = parse_options(given, self._volumes.policy.default_size, self._origin(given))
            volume = Volume(name, options)
            size = options.size if isinstance(options, Loop) else 0
            self._volumes.reach(volume)
            self._volumes.clear(self._volumes.planned, name, self._volumes.layout.mount(volume))
            # Two moves: a volume that may be made from nothing, and one that has been made and may not be again.
            with self._volumes.admitted(volume, size), self._filled(volume) as aside:
                self._volumes.reconciler.transition(self._volumes.planned, name, volume, aside=aside)
                volume = replace(volume, created_at=datetime.now(UTC).replace(microsecond=0))
                self._volumes.reconciler.transition(self._volumes.planned, name, volume)
                self._volumes.told[name] = volume

    def remove(self, request: VolumeRequest) -> None:
        """The volume and its data do not exist, whether they ever did or not; a bound directory is left alone.

        If the administrator wants it so, they are in the trash.

        Raises: Conflict: somebody has it mounted.
        """
        name = parse_name(request.Name)
        with self.locks.hold(name), self._volumes.remembering(name):
            self._volumes.underway.check_idle("remove", name)
            volume = self._volumes.known(name)
            if snapshots := self._volumes.snapshots(name):
                spelled = " ".join(snapshot.id for snapshot in snapshots)
                raise Conflict(f"cannot remove {name}: it has snapshots; first: pyvol snapshot rm {spelled}")
            if volume is not None:
                self._volumes.check_unprotected(volume, "remove")
                self._volumes.check_unused(volume, self._engine(), "remove")
                self._volumes.reach(volume)
                self._volumes.attach(name, Attachment())
                self._trash.expect(volume)
            self._volumes.reconciler.transition(self._volumes.planned, name, None)
            self._volumes.forget(name)

    def mount(self, request: MountRequest) -> MountpointAnswer:
        """The volume is mounted, and this caller has it once more."""
        name, caller_id, engine = parse_name(request.Name), parse_caller_id(request.ID), self._engine()
        with self.locks.hold(name), self._volumes.remembering(name):
            volume = self._volumes.known(name)
            if volume is None:
                raise not_found(name)
            self._volumes.underway.check_unmoved("mount", name)
            if self._volumes.is_going(VOLUME, name):
                raise Conflict(f"cannot mount {name}: its removal has begun; repeat 'docker volume rm {name}'")
            self._volumes.reach(volume)
            now = self._volumes.still_valid(volume, self._volumes.attachment(name), engine)
            if self._volumes.is_going(ATTACHMENT, name):
                # The last unmount found the volume busy; to be mounted again it need not have been unmounted.
                self._volumes.store.abandon(ATTACHMENT, name)
            self._volumes.attach(name, now.mounted(caller_id, engine))
            return MountpointAnswer(self._volumes.layout.mountpoint(volume))

    def unmount(self, request: MountRequest) -> None:
        """This caller has the volume once less, and with the last one it is not mounted. Success if it never had it."""
        name, caller_id, engine = parse_name(request.Name), parse_caller_id(request.ID), self._engine()
        with self.locks.hold(name), self._volumes.remembering(name):
            volume = self._volumes.known(name)
            if volume is not None:
                left = self._volumes.attachment(name).unmounted(caller_id, engine)
                self._volumes.attach(name, self._volumes.still_valid(volume, left, engine))

    def path(self, request: VolumeRequest) -> MountpointAnswer:
        """Return where the volume is while it is mounted."""
        return MountpointAnswer(self._volumes.layout.mountpoint(self._volumes.told_of(request.Name)))

    def get(self, request: VolumeRequest) -> GetAnswer:
        """Return what is known of the volume, ill or not: dockerd forgets a volume that it gets an error for."""
        volume = self._volumes.told_of(request.Name)
        return GetAnswer(self._info(volume, self._volumes.full_status(volume)))

    def list(self) -> ListAnswer:
        """Return all volumes by name, ill or not."""
        return ListAnswer(
            [self._info(volume, self._volumes.status(volume)) for _, volume in sorted(self._volumes.told.items())]
        )

    def capabilities(self) -> CapabilitiesAnswer:
        """Return that volumes exist on this host only."""
        return CapabilitiesAnswer(Capability())

    def reconcile(self) -> Outcome:
        """Every record is settled and in the kernel, and nothing else of ours is but finished data without a record."""
        return self._settling.reconcile()

    def expire(self) -> None:
        """What has been in the trash for long enough is gone, or the log says why not."""
        for due in self._trash.due():
            try:
                # A large file takes its time, for which nobody has to wait but who wants it back.
                with self.locks.hold(due.id):
                    if due in self._trash.content():
                        self._trash.drop(due)
            except (PluginError, ExceptionGroup) as exc:
                failure(log, exc)

    @contextmanager
    def _filled(self, volume: Volume) -> Iterator[Aside]:
        """Inside the block the volume may be made with its content; a long copy is made without the locks."""
        copied = volume.options.origin if isinstance(volume.options, Loop) else ""
        origin, snapshot = parse_origin(copied or volume.name)

        def lend() -> AbstractContextManager[None]:
            return self.locks.lend(volume.name, origin)

        if not copied:
            yield nullcontext
        elif snapshot:
            with self._volumes.underway.doing(f"{copied} is being copied to {volume.name}", (volume.name,), (copied,)):
                yield lend
        else:
            known = self._volumes.known(origin)
            assert known is not None
            with self._volumes.copied(known, volume.name, lend) as aside:
                yield aside

    def _origin(self, given: Mapping[str, str]) -> Loop | None:
        """Return the options of the volume that is to be copied, if one is, as they were at that instant.

        Raises: NotFound; BadRequest: it cannot be copied.
        """
        if not given.get("from"):
            return None
        name, snapshot = parse_origin(given["from"])
        volume = self._volumes.known(name)
        if volume is None:
            raise not_found(name)
        if not isinstance(volume.options, Loop):
            raise BadRequest(f"cannot use -o from={name}: it is a directory of the host")
        size = self._volumes.snapshot(name, snapshot).size if snapshot else volume.options.size
        return msgspec.structs.replace(volume.options, size=size)

    def _check_same(self, known: Volume, given: Mapping[str, str]) -> None:
        """Raises: Conflict: the volume has other options than were given."""
        wanted = parse_options(given, self._volumes.policy.default_size, known.options)
        if differing(known.options, wanted):
            have, want = shown(known.options), shown(wanted)
            keys = ", ".join(
                f"{key}={have.get(key, 'unset')}, not {want.get(key, 'unset')}"
                for key in differing(known.options, wanted)
            )
            raise Conflict(f"cannot create {known.name}: it exists with other options: {keys}")

    def _info(self, volume: Volume, status: dict[str, Any]) -> VolumeInfo:
        assert volume.created_at is not None
        return VolumeInfo(volume.name, self._volumes.layout.mountpoint(volume), volume.created_at, status)
