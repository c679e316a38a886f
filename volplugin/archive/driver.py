"""What of an archive needs the records: that an image becomes a volume."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from pluginkit.errors import BadRequest, Conflict
from pluginkit.locks import Locks
from pluginkit.server import Method, bound
from volplugin.archive.wire import AdoptRequest, CheckAnswer, CheckRequest
from volplugin.options import Loop, parse_options, shown
from volplugin.records import Volume, parse_name, parse_staged
from volplugin.resources import Mount
from volplugin.volumes import Volumes, pool_of


class ArchiveDriver:
    """The verbs that only the commands of archives ask. locks: those of the engine's driver."""

    def __init__(self, volumes: Volumes, locks: Locks) -> None:
        self._volumes = volumes
        self._locks = locks

    def methods(self) -> tuple[Method, ...]:
        """Return every method, as this driver answers it."""
        return bound(METHODS, self)

    def check(self, request: CheckRequest) -> CheckAnswer:
        """A volume of that name and these options could be made of an image now; return all of its options.

        Raises: Conflict: there is a volume of that name; BadRequest: it cannot have these options; Exhausted.
        """
        name = parse_name(request.Name)
        with self._locks.hold(name):
            volume, size = self._new(name, request.Opts)
            self._volumes.reach(volume)
            with self._volumes.admitted(volume, size):
                return CheckAnswer(shown(volume.options))

    def adopt(self, request: AdoptRequest) -> None:
        """The staged image is a volume with these options; it was none before. Raises: as `check`, and KernelError."""
        name, staged = parse_name(request.Name), parse_staged(request.Image)
        with self._locks.hold(name), self._volumes.remembering(name):
            volume, size = self._new(name, request.Opts)
            self._volumes.reach(volume)
            mount = self._volumes.layout.mount(volume)
            assert isinstance(mount, Mount)
            path = self._volumes.layout.staged_path(staged, pool_of(volume))
            there = self._volumes.usage.allocated(replace(mount, path=path))
            move, planned = self._volumes.reconciler.transition, self._volumes.planned
            self._volumes.clear(planned, name, mount)
            with self._volumes.admitted(volume, max(0, size - there)):
                # Two moves: a volume that may be made of the image, and one that has been made and may not be again.
                move(planned, name, replace(volume, staged=staged))
            volume = replace(volume, created_at=datetime.now(UTC).replace(microsecond=0))
            move(planned, name, volume)
            self._volumes.told[name] = volume

    def _new(self, name: str, given: dict[str, str]) -> tuple[Volume, int]:
        """Return the volume that does not exist yet, and its size."""
        if self._volumes.known(name) is not None:
            raise Conflict(f"cannot restore {name}: there is a volume of that name; give another one with --as")
        self._volumes.underway.check_idle("restore", name)
        options = parse_options(given, self._volumes.policy.default_size)
        if not isinstance(options, Loop) or options.origin:
            raise BadRequest(f"cannot restore {name}: an archive is neither a directory of the host nor a clone")
        volume = Volume(name, options)
        self._volumes.usage.check_key(self._volumes.layout.mount(volume))
        return volume, options.size


METHODS = (
    Method("Archives.Check", CheckRequest, ArchiveDriver.check),
    Method("Archives.Adopt", AdoptRequest, ArchiveDriver.adopt),
)
