"""Managed plugins: programs with a root file system of their own, which pyrun runs as it runs containers, by conmon.

What is enabled runs: one that ends is started again, and one that a daemon before has left is met again.
Source: moby plugin/manager_linux.go, plugin/backend_linux.go.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import msgspec

from runtime.errors import ApiError, BadParameter, Conflict, Failed, NotFound
from runtime.events import Events
from runtime.exits import Exits, later, pause_s
from runtime.filters import Filters
from runtime.images.layers import decompressed
from runtime.images.reference import parse_reference
from runtime.images.unpack import unpack
from runtime.plugins.config import Plugin, changed, initial, parse
from runtime.plugins.discovery import Address
from runtime.plugins.programs import Programs
from runtime.state import State
from runtime.turns import Turns

FILTERS = ("capability", "enabled")
_STATE = "plugin"
_ENABLE_TIMEOUT_S, _STEADY_S = 30.0, 10.0
log = logging.getLogger(__name__)


class Managed:
    """All managed plugins. Threads may share it; those who want the same plugin take turns."""

    def __init__(self, state: State, programs: Programs, events: Events) -> None:
        """What an interrupted `create` or `rm` has left is gone."""
        self._state, self._events, self.programs = state, events, programs
        self._turns, self._exits = Turns(), Exits()
        self._ending = False
        self._failures: dict[str, int] = {}
        self._plugins = {key: msgspec.convert(record, Plugin) for key, record in state.all(_STATE).items()}
        programs.keep_only(self._plugins)

    def select(self, filters: Filters) -> list[dict[str, Any]]:
        """Return the plugins that fit, by name, as the Engine API has them."""
        filters.check("list plugins", FILTERS)
        wanted = {word.lower() for word in filters.wanted.get("capability", ())}
        return [
            view(plugin)
            for plugin in self.all()
            # Every type of the plugin is to be among those that are asked for, as dockerd has it.
            if (not wanted or {kind.lower() for kind in plugin.config.kinds} <= wanted)
            and filters.some("enabled", lambda word, on=plugin.enabled: (word in ("true", "1")) == on)  # type: ignore[misc]
        ]

    def find(self, wanted: str) -> Plugin | None:
        """Return the plugin of this name, with its tag or without, or of this id; None: there is none."""
        names = (wanted, f"{wanted}:latest")
        return next((each for each in self.all() if each.name in names or each.id == wanted), None)

    def get(self, wanted: str) -> Plugin:
        """Return the plugin that `find` finds, or the one whose id begins so.

        Raises: NotFound.
        """
        fitting = [each for each in self.all() if wanted and each.id.startswith(wanted)]
        if found := self.find(wanted) or (fitting[0] if len(fitting) == 1 else None):
            return found
        raise NotFound(f'cannot find plugin "{wanted}": no such plugin; see docker plugin ls')

    def all(self) -> list[Plugin]:
        """Return all plugins, by name."""
        return sorted(self._plugins.copy().values(), key=lambda plugin: plugin.name)

    def driver(self, name: str) -> tuple[Address, frozenset[str]] | None:
        """Return where the plugin of this name answers, and what it implements; None: there is no managed one.

        Raises: Failed: it is disabled.
        """
        plugin = self.find(name)
        if plugin is None:
            return None
        if not plugin.enabled:
            raise Failed(f"cannot use plugin {plugin.name}: it was found but disabled; docker plugin enable it")
        return Address(socket=str(self.programs.socket(plugin))), plugin.config.kinds

    def implementing(self, capability: str) -> list[str]:
        """Return the names of those that run and are of this kind."""
        return [plugin.name for plugin in self.all() if plugin.enabled and capability in plugin.config.kinds]

    def create(self, name: str, archive: IO[bytes]) -> None:
        """The plugin is there, disabled, of the config.json and the rootfs in the tar archive.

        Raises: Conflict: there is one of this name; BadParameter: the archive is none of a plugin.
        """
        name = parse_reference(name)
        with self._turns.of(name):
            if any(each.name == name for each in self.all()):
                raise Conflict(f'cannot create plugin: plugin "{name}" already exists; remove it, or choose a name')
            key = secrets.token_hex(32)
            content = self.programs.content(key)
            content.mkdir(mode=0o700, parents=True)
            try:
                unpack(decompressed(archive), content)
                told, rootfs = content / "config.json", content / "rootfs"
                # No links: what they lead to is the host's.
                if not (_is(told, stat.S_ISREG) and _is(rootfs, stat.S_ISDIR)):
                    raise BadParameter("cannot create the plugin: its folder needs config.json and rootfs/")
                config = parse(told.read_bytes())
                self._put(Plugin(key, name, False, initial(config), config))
            except BaseException:
                self.programs.erase(key)
                raise
        self._tell("create", self._plugins[key])

    def set(self, wanted: str, words: list[str]) -> None:
        """The settings are changed, all of them or none.

        Raises: Conflict: it is enabled; BadParameter.
        """
        with self._turn(wanted) as plugin:
            if plugin.enabled:
                raise Conflict(f"cannot set on an active plugin {plugin.name}, disable plugin before setting")
            self._put(msgspec.structs.replace(plugin, settings=changed(plugin.config, plugin.settings, words)))

    def enable(self, wanted: str, timeout_s: float = 0) -> None:
        """The plugin runs and accepts on its socket; timeout_s: how long that may take, 0 for what is usual.

        Raises: Conflict: it is enabled; Failed: it does not, with its last words, and is disabled.
        """
        with self._turn(wanted) as plugin:
            if plugin.enabled:
                raise Conflict(f"cannot enable plugin {plugin.name}: it is already enabled")
            plugin = self._put(msgspec.structs.replace(plugin, enabled=True))
            try:
                self._start(plugin)
                self.programs.wait(plugin, timeout_s or _ENABLE_TIMEOUT_S)
            except BaseException as exc:
                log.warning("plugin=%s: %s", plugin.id, exc)
                self._put(msgspec.structs.replace(plugin, enabled=False))
                self.programs.stop(plugin)
                raise
        self._tell("enable", plugin)

    def disable(self, wanted: str, force: bool) -> None:
        """Nothing of the plugin runs, and none of its mounts is there; what containers have mounted they keep.

        Raises: Conflict: it is disabled, or in use and `force` is not given; Failed: it outlives SIGKILL.
        """
        with self._turn(wanted) as plugin:
            if not plugin.enabled:
                raise Conflict(f"cannot disable plugin {plugin.name}: it is already disabled")
            self._check_unused("disable", plugin, force)
            self.programs.stop(self._put(msgspec.structs.replace(plugin, enabled=False)))
        self._tell("disable", plugin)

    def remove(self, wanted: str, force: bool) -> None:
        """Nothing is left of the plugin but what lies in directories of the host.

        Raises: Conflict: it is enabled or in use and `force` is not given.
        """
        with self._turn(wanted) as plugin:
            self._check_unused("remove", plugin, force)
            if plugin.enabled and not force:
                raise Conflict(f"cannot remove plugin {plugin.name}: it is enabled; disable it first, or use -f")
            self.programs.stop(self._put(msgspec.structs.replace(plugin, enabled=False)))
            self._state.delete(_STATE, plugin.id)
            del self._plugins[plugin.id]
            self.programs.erase(plugin.id)
        self._tell("remove", plugin)

    def recover(self) -> None:
        """What is enabled runs, or will be tried again, and nothing else does."""
        for plugin in self.all():
            with self._turn(plugin.id), _logged(plugin):
                pid = self.programs.pid(plugin)
                if not plugin.enabled:
                    self.programs.stop(plugin)
                elif pid is None:
                    self._start_again(plugin.id)
                else:
                    self._watch(plugin)
                    self.programs.start_created(plugin)

    def end_all(self) -> None:
        """Nothing runs. What is enabled is started by the next daemon."""
        self._ending = True
        for plugin in self.all():
            with self._turn(plugin.id), _logged(plugin):
                self.programs.stop(plugin)

    def _start(self, plugin: Plugin) -> None:
        self.programs.start(plugin)
        self._watch(plugin)

    def _watch(self, plugin: Plugin) -> None:
        self._exits.watch(self.programs.pid(plugin), partial(self._ended, plugin.id, time.monotonic()))

    def _waits_for_start(self, key: str) -> Plugin | None:
        """Return the plugin if it is to run and does not."""
        plugin = self._plugins.get(key)
        return plugin if plugin and plugin.enabled and not self._ending and self.programs.pid(plugin) is None else None

    def _start_again(self, key: str) -> None:
        with self._turns.of(key):
            if plugin := self._waits_for_start(key):
                try:
                    self._start(plugin)
                except (ApiError, OSError) as exc:
                    log.warning("plugin=%s: %s", key, exc)
                    self._later(key)

    def _ended(self, key: str, started: float) -> None:
        with self._turns.of(key):
            if plugin := self._waits_for_start(key):
                words = self.programs.last_words(plugin)
                log.warning("plugin=%s: %s has ended and is started again; %s", key, plugin.name, words)
                if time.monotonic() - started >= _STEADY_S:
                    self._failures.pop(key, None)
                    self._start_again(key)
                else:
                    self._later(key)

    def _later(self, key: str) -> None:
        self._failures[key] = failures = self._failures.get(key, 0) + 1
        later(pause_s(failures), self._start_again, key)

    def _check_unused(self, purpose: str, plugin: Plugin, force: bool) -> None:
        short = plugin.name.removesuffix(":latest")
        names = (plugin.name, short)
        volumes = [key for key, record in self._state.all("volume").items() if record["Driver"] in names]
        networks = [
            record["name"]
            for record in self._state.all("network").values()
            if record["driver"] in names or (record["body"].get("IPAM") or {}).get("Driver") in names
        ]
        if (volumes or networks) and not force:
            users = ", ".join([*(f"volume {name}" for name in volumes), *(f"network {name}" for name in networks)])
            raise Conflict(f"cannot {purpose} plugin {plugin.name}: it is in use by {users}; remove them, or use -f")

    def _put(self, plugin: Plugin) -> Plugin:
        self._state.put(_STATE, plugin.id, msgspec.to_builtins(plugin))
        self._plugins[plugin.id] = plugin
        return plugin

    @contextmanager
    def _turn(self, wanted: str) -> Iterator[Plugin]:
        key = self.get(wanted).id
        with self._turns.of(key):
            yield self.get(key)

    def _tell(self, action: str, plugin: Plugin) -> None:
        self._events.tell("plugin", action, plugin.id, {"name": plugin.name})


def view(plugin: Plugin) -> dict[str, Any]:
    """Return the plugin as the Engine API has it."""
    content: dict[str, Any] = msgspec.to_builtins(plugin)
    return content | {"PluginReference": ""}


@contextmanager
def _logged(plugin: Plugin) -> Iterator[None]:
    try:
        yield
    except (ApiError, OSError) as exc:
        log.warning("plugin=%s: %s", plugin.id, exc)


def _is(path: Path, fits: Callable[[int], bool]) -> bool:
    return os.path.lexists(path) and fits(path.lstat().st_mode)
