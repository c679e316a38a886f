"""What pyvol remembers: what the engine told it, parsed, and nothing that the kernel told it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from pluginkit.errors import BadRequest
from volplugin.options import Bind, Loop

# What the engine's own local driver accepts; so neither "/" nor "..", and a leading "." is free for our own files.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)
# A name becomes a directory's name, and that is what a file system takes (NAME_MAX).
_NAME_MAX_BYTES = 255
_SNAPSHOT_MAX_BYTES = 128
_STAGED = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True)
class Restoring:
    """The name of a snapshot, and a word that no other restoring has: the content that has it is the restored one."""

    snapshot: str
    token: str


@dataclass(frozen=True)
class Volume:
    """A volume, from Create to Remove. created_at: None until the engine may be told that it exists.

    shrinking: its content may be made smaller to fit its size. Otherwise a content that is larger is an accident.
    restoring: its content is being replaced by that of a snapshot. protected: it is neither removed nor restored.
    schedule: when snapshots of it are taken; "": never by itself.
    trash: on its way into the trash or out of it, the ID that it has there; "": otherwise.
    staged: until it has been created, the name of the image that it is made of; "": of nothing, or of another volume.
    """

    name: str
    options: Loop | Bind
    created_at: datetime | None = None
    shrinking: bool = False
    restoring: Restoring | None = None
    protected: bool = False
    staged: str = ""
    schedule: str = ""
    trash: str = ""


@dataclass(frozen=True)
class Snapshot:
    """What was in a volume at an instant. created_at: None until it has been made. size: that of the volume then.

    transient: it is for somebody who opens it at once, and goes. scheduled: a schedule took it, and may delete it.
    group: the IDs of all that were taken at the same instant, which are there together or not at all; "": it is alone.
    """

    volume: str
    name: str
    size: int
    created_at: datetime | None = None
    transient: bool = False
    scheduled: bool = False
    group: str = ""

    @property
    def id(self) -> str:
        """How it is spelled."""
        return f"{self.volume}@{self.name}"


@dataclass(frozen=True)
class Trashed:
    """A volume that was removed and can be had again. expires_at: when it goes for good; None: never by itself."""

    volume: Volume
    trashed_at: datetime
    expires_at: datetime | None

    @property
    def id(self) -> str:
        """The name that it had, and when that was: no volume and no snapshot is spelled so."""
        return f"{self.volume.name}~{self.trashed_at:%Y%m%dT%H%M%S.%f}"


@dataclass(frozen=True)
class Pool:
    """A filesystem in a file that holds volumes. created_at: None until somebody may be told that it exists."""

    name: str
    fs: str
    size: int
    sparse: bool = True
    created_at: datetime | None = None


@dataclass(frozen=True)
class MountCount:
    """How many Mounts of `caller_id` by one engine process are open. engine: as `pluginkit.caller` names it."""

    caller_id: str
    engine: str
    count: int


# pyvol's own caller ID, by which it has a volume mounted that it reads or writes for a while.
OWN_CALLER = "pyvol"


@dataclass(frozen=True)
class Attachment:
    """Who has a volume mounted, in the order in which they came. The volume is mounted while anybody has it.

    lazy: when nobody has it any more, it is unmounted although processes use it, which keep what they have open.
    """

    mounts: tuple[MountCount, ...] = ()
    lazy: bool = False

    @property
    def callers(self) -> dict[str, int]:
        """How many Mounts of each caller ID are open."""
        totals: dict[str, int] = {}
        for mount in self.mounts:
            totals[mount.caller_id] = totals.get(mount.caller_id, 0) + mount.count
        return totals

    @property
    def engines(self) -> frozenset[str]:
        """The engine processes that have it mounted."""
        return frozenset(mount.engine for mount in self.mounts)

    def mounted(self, caller_id: str, engine: str) -> Attachment:
        """Return it with one Mount more, which must not be taken down under whoever uses it."""
        for mount in self.mounts:
            if (mount.caller_id, mount.engine) == (caller_id, engine):
                return replace(self._with(mount, mount.count + 1), lazy=False)
        return replace(self, mounts=(*self.mounts, MountCount(caller_id, engine, 1)), lazy=False)

    def unmounted(self, caller_id: str, engine: str) -> Attachment:
        """Return it with one Mount less: one of `engine`'s if it has any, or else one that it took over."""
        of_caller = [mount for mount in self.mounts if mount.caller_id == caller_id]
        if not of_caller:
            return self
        least = next((mount for mount in of_caller if mount.engine == engine), of_caller[0])
        return self._with(least, least.count - 1)

    def without(self, engines: Collection[str]) -> Attachment:
        """Return it without the Mounts of these engine processes."""
        return replace(self, mounts=tuple(mount for mount in self.mounts if mount.engine not in engines))

    def _with(self, old: MountCount, count: int) -> Attachment:
        changed = (replace(mount, count=count) if mount is old else mount for mount in self.mounts)
        return replace(self, mounts=tuple(mount for mount in changed if mount.count))


def parse_name(text: str) -> str:
    """Return `text` if it can be a volume's name; only what has passed here becomes part of a path.

    Raises: BadRequest.
    """
    if not _NAME.fullmatch(text):
        raise BadRequest(
            f"cannot use {text[:80]!r} as a volume name: it takes letters, digits, '_', '.' and '-', and starts with a"
            " letter or a digit"
        )
    if len(text) > _NAME_MAX_BYTES:
        raise BadRequest(f"cannot use {text[:80]!r}... as a volume name: it is longer than {_NAME_MAX_BYTES} bytes")
    return text


def parse_snapshot_id(text: str) -> tuple[str, str]:
    """Return the names of volume and snapshot in VOLUME@SNAPSHOT.

    Raises: BadRequest.
    """
    volume, sign, snapshot = text.partition("@")
    if not sign:
        raise BadRequest(f"cannot use {text[:80]!r} as a snapshot: it is spelled VOLUME@SNAPSHOT")
    return parse_name(volume), parse_snapshot_name(snapshot)


def parse_origin(text: str) -> tuple[str, str]:
    """Return the name of a volume, and that of a snapshot of it or "", in VOLUME or VOLUME@SNAPSHOT.

    Raises: BadRequest.
    """
    return parse_snapshot_id(text) if "@" in text else (parse_name(text), "")


def parse_snapshot_name(text: str) -> str:
    """Return `text` if it can be a snapshot's name, which is made like a volume's. Raises: BadRequest."""
    if not _NAME.fullmatch(text) or len(text) > _SNAPSHOT_MAX_BYTES:
        raise BadRequest(
            f"cannot use {text[:80]!r} as a snapshot name: it takes {_SNAPSHOT_MAX_BYTES} letters, digits, '_', '.' and"
            " '-' at most, and starts with a letter or a digit"
        )
    return text


def parse_staged(text: str) -> str:
    """Return `text` if it can be the name of a staged image. Raises: BadRequest."""
    if not _STAGED.fullmatch(text):
        raise BadRequest(f"cannot use {text[:80]!r} as the name of a staged image: it takes 32 hexadecimal digits")
    return text


def parse_caller_id(text: str) -> str:
    """Return `text` if it can be the ID of a Mount's caller. Docker sends 64 hexadecimal digits, Podman a constant.

    Raises: BadRequest.
    """
    if not text or len(text) > _NAME_MAX_BYTES or not text.isprintable():
        raise BadRequest(
            f"cannot use {text[:80]!r} as a caller ID: it takes 1 to {_NAME_MAX_BYTES} printable characters"
        )
    return text
