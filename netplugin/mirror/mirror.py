"""The process that mirrors: whenever something changes in etcd or on the engine, both are compared as a whole."""

from __future__ import annotations

import http.client
import json
import logging
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

from netplugin.cluster import keys
from netplugin.cluster.etcd import Compacted, Delete, Etcd, Is, Put
from netplugin.mirror.definition import LABEL, Definition, Local, Step, creation, parse_local, steps
from pluginkit import wire
from pluginkit.engine import api
from pluginkit.errors import BadRequest, Conflict, PluginError, Unavailable

log = logging.getLogger(__name__)

_EVERY_S, _AGAIN_S = 30.0, 2.0
_EVENTS = '{"type":["network","container"],"event":["create","destroy","remove"]}'
_CANNOT_ASK = (OSError, http.client.HTTPException, ValueError, LookupError, TypeError)


class Mirror:
    """One engine and the cluster. driver: as the engine knows pynet."""

    def __init__(self, etcd: Etcd, engine: Path, driver: str) -> None:
        self._etcd, self._engine, self._driver = etcd, engine, driver
        self._due = threading.Event()
        self._told: set[str] = set()
        self._seen: set[str] = set()

    def run(self) -> None:
        """Never returns: what changes is followed at once, and what went wrong is tried again."""
        for listen in (self._listen_to_etcd, self._listen_to_engine):
            threading.Thread(target=listen, daemon=True).start()
        while True:
            self._due.clear()
            self.compare()
            self._due.wait(_EVERY_S)

    def compare(self) -> list[str]:
        """Engine and cluster agree; return what is in the way of that, in words, which was logged when it was new."""
        failures: list[str] = []
        try:
            local, defined = self._on_engine(), self._defined()
            for step in list(steps(local, defined, self._gone(local, defined))):
                try:
                    self._take(step)
                except PluginError as exc:
                    failures.append(str(exc))
        except PluginError as exc:
            failures.append(str(exc))
        for failure in failures:
            if failure not in self._told:
                log.warning("%s", failure)
        self._told = set(failures)
        return failures

    def _take(self, step: Step) -> None:
        """The step is taken. Raises: PluginError: it cannot be, yet."""
        key = keys.mirror_key(step.overlay)
        if step.do == "publish":
            found = self._etcd.get(key)
            self._etcd.transact([Is(key, found.revision)], [Put(key, wire.encode(step.definition))])
        elif step.do == "withdraw":
            self._etcd.transact([], [Delete(key)])
        elif step.do == "create" and step.definition is not None:
            self._check_name(step.definition)
            api.send(self._engine, "POST", "/networks/create", creation(step.definition, step.overlay, self._driver))
        elif step.do == "remove":
            self._check_unused(step)
            api.send(self._engine, "DELETE", f"/networks/{step.network}")
        log.info("%s: %s", step.overlay, _DONE[step.do])

    def _check_name(self, definition: Definition) -> None:
        """Raises: Conflict: the engine has another network of that name, which it would not always refuse."""
        if any(each["Name"] == definition.name for each in self._asked("/networks")):
            raise Conflict(
                f"cannot create network {definition.name}: this engine has another one of that name; remove that"
            )

    def _check_unused(self, step: Step) -> None:
        """Raises: Conflict: a container, which need not run, is to be in the network."""
        filters = quote(json.dumps({"network": [step.network]}))
        using = self._asked(f"/containers/json?all=true&filters={filters}")
        if using:
            names = ", ".join(sorted(each["Names"][0].removeprefix("/") for each in using))
            raise Conflict(f"cannot remove network {step.overlay}: {names} use it; it goes when they do")

    def _on_engine(self) -> list[Local]:
        """Return the engine's networks of the cluster. Raises: Unavailable."""
        ids = [each["Id"] for each in self._asked("/networks") if each["Driver"] == self._driver]
        found = (parse_local(self._asked(f"/networks/{each}"), self._driver) for each in ids)
        return [local for local in found if local is not None]

    def _gone(self, local: list[Local], defined: dict[str, Definition]) -> set[str]:
        """Return which of the definitions are of networks that are no more where they were made. Raises: Unavailable.

        A host's pynet says in etcd that it is on a network, and what its engine calls that. Engines have IDs, too, but
        machines that were copied share them.
        """
        before, now = self._seen, {each.id for each in local}
        self._seen = now
        removed_here = {overlay for overlay, one in defined.items() if one.origin in before - now}
        return removed_here | {overlay for overlay, one in defined.items() if one.origin not in self._members(overlay)}

    def _members(self, overlay: str) -> set[str]:
        """Return what the engines of all hosts on a network call it. Raises: Unavailable."""
        found = set()
        for entry in self._etcd.list(keys.members_prefix(overlay)).entries:
            try:
                found.add(wire.decode(entry.value, keys.MemberValue).network)
            except BadRequest as exc:
                log.error("cannot read %s in etcd: %s; delete it", entry.key, exc)
        return found

    def _asked(self, what: str) -> Any:
        try:
            return api.get(self._engine, what)
        except _CANNOT_ASK as exc:
            raise Unavailable(f"cannot ask the engine on {self._engine}: {exc}") from exc

    def _defined(self) -> dict[str, Definition]:
        """Return the definitions by the overlay's name. Raises: Unavailable."""
        found = {}
        for entry in self._etcd.list(keys.MIRROR).entries:
            try:
                found[entry.key.removeprefix(keys.MIRROR)] = wire.decode(entry.value, Definition)
            except BadRequest as exc:
                log.error("cannot read %s in etcd: %s; delete it", entry.key, exc)
        return found

    def _listen_to_etcd(self) -> None:
        while True:
            try:
                watch = self._etcd.watch(keys.MIRROR, self._etcd.list(keys.MIRROR).revision)
                self._due.set()
                for _ in watch:
                    self._due.set()
            except (PluginError, Compacted) as exc:
                log.debug("%s", exc)
            threading.Event().wait(_AGAIN_S)

    def _listen_to_engine(self) -> None:
        while True:
            try:
                with api.lines(self._engine, f"/events?filters={quote(_EVENTS)}") as events:
                    self._due.set()
                    for _ in events:
                        self._due.set()
            except _CANNOT_ASK as exc:
                log.debug("%s", exc)
            threading.Event().wait(_AGAIN_S)


_DONE = {
    "publish": "other hosts may make it",
    "withdraw": "it is removed here, and soon on other hosts",
    "create": f"made here, with the label {LABEL}",
    "remove": "removed here, for nobody defines it any more",
}
