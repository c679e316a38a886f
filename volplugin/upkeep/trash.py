"""The trash: volumes that were removed, and can be had again for some time.

A volume says by its record that it goes there, then the trash says that it has it, then the volume goes; and the same
way back. So whatever is cut short: while there is a volume of that name, the trash does not have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from pluginkit.errors import NotFound
from pluginkit.store import Row
from volplugin.options import Loop
from volplugin.records import Trashed, Volume
from volplugin.resources import Mount
from volplugin.volumes import TRASH, VOLUME, Volumes, pool_of


class Trash:
    """What was removed of the volumes of one state directory. Callers hold the locks."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def expect(self, volume: Volume) -> None:
        """When the volume is removed, it will be in the trash, if there is one and it can be kept there."""
        if not self._volumes.policy.trash or not isinstance(volume.options, Loop) or volume.trash:
            return
        now = datetime.now(UTC)
        trashed = Trashed(volume, now, now + self._volumes.policy.trash)
        self._volumes.change(replace(volume, trash=trashed.id))
        self._volumes.reconciler.transition(self._volumes.trash_planned, trashed.id, trashed)

    def content(self) -> list[Trashed]:
        """Return what is in it, the latest of a name last."""
        found = [row.current for row in self._volumes.store.rows(TRASH) if row.current is not None]
        out = {row.current.trash for row in self._volumes.store.rows(VOLUME) if row.current and not row.pending}
        return sorted((each for each in found if each.id not in out), key=lambda each: each.id)

    def find(self, text: str) -> Trashed:
        """Return what has that ID, or was last removed of that name. Raises: NotFound."""
        found = [each for each in self.content() if text in (each.id, each.volume.name)]
        if not found:
            have = ", ".join(each.id for each in self.content()) or "nothing"
            raise NotFound(f"cannot find {text[:80]!r} in the trash: what is in it: {have}")
        return found[-1]

    def take_out(self, trashed: Trashed, name: str) -> None:
        """The volume is there again, by that name, which no volume had; it is not in the trash any more."""
        move, planned = self._volumes.reconciler.transition, self._volumes.planned
        volume = replace(trashed.volume, name=name, created_at=None, trash=trashed.id)
        self._volumes.clear(planned, name, self._volumes.layout.mount(volume))
        assert isinstance(volume.options, Loop)
        with self._volumes.admitted(volume, max(0, volume.options.size - self.allocated(trashed))):
            move(planned, name, volume)
        volume = replace(volume, created_at=trashed.volume.created_at)
        move(planned, name, volume)
        self._volumes.reconciler.transition(self._volumes.trash_planned, trashed.id, None)
        self._volumes.change(replace(volume, trash=""))

    def drop(self, trashed: Trashed) -> None:
        """It is gone for good."""
        self._volumes.reconciler.transition(self._volumes.trash_planned, trashed.id, None)

    def allocated(self, trashed: Trashed) -> int:
        """Return the bytes that it takes of the disk. Raises: KernelError."""
        mount = self._volumes.layout.mount(trashed.volume)
        if not isinstance(mount, Mount):
            return 0
        return self._volumes.usage.allocated(
            replace(mount, path=self._volumes.layout.trashed_path(trashed.id, mount.fs, pool_of(trashed.volume)))
        )

    def taken(self) -> int:
        """Return the bytes that all of it takes of the disk. Raises: KernelError."""
        return sum(map(self.allocated, self.content()))

    def is_arriving(self, row: Row[Volume]) -> bool:
        """Tell whether the volume was on its way into the trash or out of it, and is there."""
        return row.current is not None and bool(row.current.trash and row.current.created_at) and not row.pending

    def arrive(self, row: Row[Volume]) -> Iterator[Exception]:
        """The volume, which is there, is not in the trash."""
        assert row.current is not None
        yield from self._volumes.tried(self._volumes.trash_planned, row.current.trash, None)
        yield from self._volumes.tried(self._volumes.planned, row.id, replace(row.current, trash=""))

    def due(self) -> list[Trashed]:
        """Return what has been there for long enough."""
        now = datetime.now(UTC)
        return [each for each in self.content() if each.expires_at is not None and each.expires_at <= now]
