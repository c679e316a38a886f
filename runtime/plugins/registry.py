"""Plugins by name: found and activated when first needed, and asked again while they start."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from runtime.errors import ApiError, Failed, NotFound
from runtime.exits import later
from runtime.plugins import discovery
from runtime.plugins.debts import Debts
from runtime.plugins.managed import Managed
from runtime.plugins.transport import Refused, Unreachable, exchange
from runtime.state import State
from runtime.turns import Turns

Result = TypeVar("Result")

# Source: moby pkg/plugins/client.go, backoff and abort; volume/drivers/proxy.go, longTimeout.
PATIENCE_S = 30.0
LONG_S, SHORT_S = 120.0, 60.0
SLOW = ("VolumeDriver.Create", "VolumeDriver.Mount")
_REMINDER_S = 2.0
_log = logging.getLogger(__name__)


class Plugins:
    """All plugins that this machine has. Threads may share it; one that is down never delays another."""

    def __init__(
        self,
        state: State,
        sockets: Path = discovery.SOCKETS,
        specs: tuple[Path, ...] = discovery.SPECS,
        sleep: Callable[[float], None] = time.sleep,
        managed: Managed | None = None,
    ) -> None:
        """state: remembers what plugins are owed. managed: those that are asked before any other of their name."""
        self._places = (sockets, specs)
        self._sleep, self._managed = sleep, managed
        self._turn = threading.Lock()
        # What was activated stays, as with dockerd: a plugin that restarts is not asked what it is again.
        self._active: dict[str, tuple[discovery.Address, frozenset[str]]] = {}
        self._debts, self._turns = Debts(state), Turns()
        for name in self._debts.plugins():
            later(_REMINDER_S, self._remind, name)

    def call(self, name: str, capability: str, method: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer of the plugin `name` to `capability`.`method`. A body of None is sent as an empty one.

        Unlike dockerd, a request that is sent again has its body again, and network drivers have a time limit too.

        Raises: NotFound: no such plugin, or it is of another kind; Refused: its words; Unreachable; Failed.
        """
        self._pay(name, patient=True)
        return self._call(name, capability, method, body, patient=True)

    def tell(self, name: str, capability: str, method: str, body: dict[str, Any]) -> None:
        """The plugin knows it or, if it does not answer now, will before it is asked for anything.

        What has ended does not wait for a plugin. dockerd waits, and then leaves it at a line in its log.

        Raises: Refused: its words.
        """
        try:
            self._pay(name, patient=False)
            self._call(name, capability, method, body, patient=False)
        except Refused:
            raise
        except ApiError as exc:
            _log.warning("plugin %s is told when it answers again: %s", name, exc)
            first = not self._debts.of(name)
            self._debts.add(name, capability, method, body)
            if first:
                later(_REMINDER_S, self._remind, name)

    def _pay(self, name: str, patient: bool) -> None:
        """The plugin is owed nothing any more.

        Raises: Unreachable, NotFound, Failed: it does not answer.
        """
        if not self._debts.of(name):
            return
        with self._turns.of(name):
            for debt in self._debts.of(name):
                with suppress(Refused):  # it has heard it; what it said is in the log
                    self._call(name, debt.capability, debt.method, debt.body, patient)
                self._debts.settle(debt)
            _log.info("plugin %s knows what it had missed", name)

    def _remind(self, name: str) -> None:
        try:
            self._pay(name, patient=False)
        except ApiError:
            later(_REMINDER_S, self._remind, name)

    def _call(
        self, name: str, capability: str, method: str, body: dict[str, Any] | None, patient: bool
    ) -> dict[str, Any]:
        address, implements = self._activate(name, patient)
        if capability not in implements:
            kinds = ", ".join(sorted(implements)) or "nothing"
            raise NotFound(f'cannot use plugin "{name}" as {capability}: it implements {kinds}; name another')
        encoded = b"" if body is None else json.dumps(body).encode() + b"\n"
        return self._exchange(name, address, f"{capability}.{method}", encoded, patient)

    def full_name(self, name: str) -> str:
        """Return the name with its tag if it is that of a managed plugin, or else the name."""
        plugin = self._managed.find(name) if self._managed else None
        return plugin.name if plugin else name

    def on_host(self, name: str, path: str) -> str:
        """Return what the path that a plugin has named is called on the host."""
        plugin = self._managed.find(name) if self._managed and path else None
        return self._managed.programs.on_host(plugin, path) if self._managed and plugin else path

    def implementing(self, capability: str) -> list[str]:
        """Return the names of the plugins of that kind that answer now, sorted."""
        found = self._managed.implementing(capability) if self._managed else []
        for name in discovery.names(*self._places):
            try:
                _, implements = self._activate(name, patient=False)
            except ApiError as exc:
                _log.warning("plugin %s is passed over: %s", name, exc)
                continue
            if capability in implements:
                found.append(name)
        return sorted({*found})

    def known(self, capability: str) -> list[str]:
        """Return the names of the plugins of that kind that were used since the daemon started, sorted."""
        with self._turn:
            return sorted(name for name, (_, implements) in self._active.items() if capability in implements)

    def _activate(self, name: str, patient: bool) -> tuple[discovery.Address, frozenset[str]]:
        if self._managed and (managed := self._managed.driver(name)):
            return managed
        with self._turn:
            if name in self._active:
                return self._active[name]
        address = (
            self._patiently(name, lambda: discovery.find(name, *self._places), NotFound)
            if patient
            else discovery.find(name, *self._places)
        )
        answer = self._exchange(name, address, "Plugin.Activate", b"", patient)
        implements = answer.get("Implements") or []
        if not isinstance(implements, list):
            raise Failed(f'cannot activate plugin "{name}": Implements is no list; repair the plugin')
        active = (address, frozenset(map(str, implements)))
        with self._turn:
            return self._active.setdefault(name, active)

    def _exchange(
        self, name: str, address: discovery.Address, method: str, body: bytes, patient: bool = True
    ) -> dict[str, Any]:
        timeout_s = LONG_S if method in SLOW or not method.startswith("VolumeDriver.") else SHORT_S

        def ask() -> dict[str, Any]:
            return exchange(address, method, body, timeout_s)

        try:
            return self._patiently(name, ask, OSError) if patient else ask()
        except OSError as exc:
            where = address.socket or f"{address.host}:{address.port}"
            raise Unreachable(
                f'cannot ask plugin "{name}": {method} at {where}: {exc}; is the plugin running?'
            ) from exc
        except Refused as exc:
            _log.info("plugin %s refused: %s", name, exc)
            raise

    def _patiently(self, name: str, attempt: Callable[[], Result], transient: type[Exception]) -> Result:
        """Return what `attempt` returns. After 0, 1, 3, 7 and 15 seconds it has been tried for the last time."""
        started, pause = time.monotonic(), 1.0
        slept = 0.0
        while True:
            try:
                return attempt()
            except transient as exc:
                elapsed = max(time.monotonic() - started, slept)
                if elapsed + pause >= PATIENCE_S:
                    raise
                _log.warning("plugin %s: %s; tried again in %g s", name, exc, pause)
            self._sleep(pause)
            slept, pause = slept + pause, pause * 2
