"""The verbs that look after volumes. Like all others, each that changes something is a move between records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from pluginkit.errors import Conflict
from pluginkit.locks import Locks
from pluginkit.server import Method, bound
from volplugin.options import Loop, differing, parse_changes
from volplugin.records import parse_name
from volplugin.resources import Mount
from volplugin.upkeep.trash import Trash
from volplugin.upkeep.wire import (
    CheckAnswer,
    CheckRequest,
    SetAnswer,
    SetRequest,
    TrashAnswer,
    TrashedInfo,
    TrashRequest,
    UndeleteAnswer,
    UndeleteRequest,
)
from volplugin.volumes import Volumes, not_found

_OF_A_MOUNT = ("sparse", "mount_opts", "ro", "key_file", "key_cmd")


class Found(Protocol):
    """What a check found."""

    @property
    def verdict(self) -> str:
        """Say it in a word."""

    @property
    def detail(self) -> str:
        """Say what there is to do about it."""


class Checking(Protocol):
    """What looks for damage."""

    def check(self, image: Path, fs: str, timeout_s: float) -> Found:
        """Return what is wrong in the file, of which nothing has been changed. Raises: KernelError."""


class UpkeepDriver:
    """What the administrator may have done for volumes. locks: those of the engine's driver."""

    def __init__(self, volumes: Volumes, locks: Locks, checking: Checking) -> None:
        self._volumes = volumes
        self._locks = locks
        self._checking = checking
        self._trash = Trash(volumes)

    def methods(self) -> tuple[Method, ...]:
        """Return every method, as this driver answers it."""
        return bound(METHODS, self)

    def check(self, request: CheckRequest) -> CheckAnswer:
        """Return whether the volume's filesystem is whole. Nothing was changed, and nobody had to wait.

        Raises: NotFound; Conflict: it is being changed; KernelError.
        """
        name = parse_name(request.Name)
        with self._locks.hold(name):
            volume = self._volumes.known(name)
            if volume is None:
                raise not_found(name)
            mount = self._volumes.layout.mount(volume)
            if not isinstance(volume.options, Loop) or not isinstance(mount, Mount):
                return CheckAnswer(name, "directory", "it is a directory of the host, which checks its own filesystems")
            self._volumes.underway.check_idle("check", name)
            if self._volumes.attachment(name).mounts or self._volumes.usage.holders(mount):
                return CheckAnswer(name, "mounted", "it is in use; only what is not mounted can be checked")
            with self._volumes.underway.doing(f"{name} is being checked", needs=(name,)), self._locks.lend(name):
                found = self._checking.check(mount.path, volume.options.fs, request.TimeoutSeconds)
        return CheckAnswer(name, found.verdict, found.detail)

    def set(self, request: SetRequest) -> SetAnswer:
        """The volume has these options, and else those that it had.

        Raises: NotFound; BadRequest: it cannot have them, or only from the beginning; Conflict: it is being changed.
        """
        name = parse_name(request.Name)
        with self._locks.hold(name), self._volumes.remembering(name):
            volume = self._volumes.known(name)
            if volume is None:
                raise not_found(name)
            self._volumes.underway.check_idle("change", name)
            options = parse_changes(request.Opts, volume.options)
            changed = differing(volume.options, options)
            self._volumes.change(replace(volume, options=options))
            mounted = self._volumes.attachment(name).mounts
            return SetAnswer(tuple(key for key in changed if key in _OF_A_MOUNT) if mounted else ())

    def list_trash(self) -> TrashAnswer:
        """Return what is in the trash."""
        found = []
        for trashed in self._trash.content():
            size = trashed.volume.options.size if isinstance(trashed.volume.options, Loop) else 0
            allocated = self._trash.allocated(trashed)
            found.append(TrashedInfo(trashed.id, trashed.trashed_at, trashed.expires_at, size, allocated))
        return TrashAnswer(tuple(found))

    def drop(self, request: TrashRequest) -> None:
        """It is gone for good. Raises: NotFound: it was not there."""
        trashed = self._trash.find(request.Trashed)
        with self._locks.hold(trashed.id):
            self._trash.drop(self._trash.find(trashed.id))

    def undelete(self, request: UndeleteRequest) -> UndeleteAnswer:
        """The volume is there again as it was, and the engine finds it.

        Raises: NotFound; Conflict: its name is taken; Exhausted: it may grow by more than the disk has.
        """
        trashed = self._trash.find(request.Trashed)
        name = parse_name(request.As or trashed.volume.name)
        with self._locks.hold(trashed.id, name):
            trashed = self._trash.find(trashed.id)
            self._volumes.underway.check_idle("undelete", name)
            if self._volumes.known(name) is not None:
                raise Conflict(f"cannot undelete {trashed.id}: there is a volume {name}; give another name with --as")
            self._trash.take_out(trashed, name)
        return UndeleteAnswer(name)


METHODS = (
    Method("Upkeep.Check", CheckRequest, UpkeepDriver.check),
    Method("Upkeep.Set", SetRequest, UpkeepDriver.set),
    Method("Trash.List", None, UpkeepDriver.list_trash),
    Method("Trash.Drop", TrashRequest, UpkeepDriver.drop),
    Method("Trash.Undelete", UndeleteRequest, UpkeepDriver.undelete),
)
