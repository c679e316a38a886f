"""Networks that the engine has forgotten without a word.

A DeleteNetwork that fails is only logged, and a network whose creation failed is not deleted. So engines are asked what
they know, outside of every request: after a start, now and then, and when a request comes back without its body, which
says that one was lost, not which network it was about. A network is forgotten if the engine that knew it, the same by
its ID, knows it no more. One that no engine was ever seen to know may be that of an engine that cannot be asked: it is
forgotten only while there are no more of them than requests were lost.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from netplugin.engine import api
from netplugin.kinds import ENDPOINTS, LOST, NETWORKS, SIGHTINGS
from netplugin.records import LostRequest, Sighting
from pluginkit.errors import Unavailable
from pluginkit.log import failure
from pluginkit.store import Kind, Store

log = logging.getLogger(__name__)
R = TypeVar("R")

_PAUSE_S = 5.0
_EVERY_S = 600.0


@dataclass(frozen=True)
class _Look:
    """What engines and records say at one moment. known: by ID, the engines that know the network."""

    engines: frozenset[str]
    known: dict[str, str]
    ours: frozenset[str]
    idle: frozenset[str]


class Forgotten:
    """Finds what was forgotten and deletes it.

    engines: Unix sockets of the Engine API; those that do not exist are passed over. delete: a network is gone.
    pause_s: seconds before each of two looks, which must agree: an engine records a network after it was created.
    """

    def __init__(
        self, store: Store, engines: Iterable[Path], delete: Callable[[str], None], pause_s: float = _PAUSE_S
    ) -> None:
        self._store = store
        self._paths = tuple(engines)
        self._delete = delete
        self._pause_s = pause_s
        self._due = threading.Event()
        self._turn = threading.Lock()
        self._named: set[str] = set()

    def lost(self) -> None:
        """It is on record that a request about a network was lost; what was forgotten by it will be gone soon."""
        self._save(LOST, secrets.token_hex(8), LostRequest())
        self._due.set()

    def run(self) -> None:
        """Never returns: looks at once, now and then, and soon after a request was lost."""
        while True:
            try:
                self.collect()
            except Unavailable as exc:
                log.info("%s", exc)
            except Exception as exc:  # noqa: BLE001 - the next round tries again; the thread must live
                failure(log, exc)
            self._due.wait(_EVERY_S)
            self._due.clear()

    def collect(self) -> None:
        """Of our networks those are gone that the engine has forgotten, if all engines that there are could be asked.

        Raises: Unavailable: one of them could not.
        """
        with self._turn:
            self._collect()

    def _collect(self) -> None:
        time.sleep(self._pause_s)
        lost = [row.id for row in self._store.rows(LOST)]
        before = self._look()
        time.sleep(self._pause_s)
        now = self._look()
        if not before.engines or not now.engines:
            return
        sightings = {row.id: row.current.engine for row in self._store.rows(SIGHTINGS) if row.current}
        for network_id in now.ours & now.known.keys():
            if sightings.get(network_id) != now.known[network_id]:
                self._save(SIGHTINGS, network_id, Sighting(now.known[network_id]))
        unknown = (before.idle & now.idle) - before.known.keys() - now.known.keys()
        forgotten = {one for one in unknown if sightings.get(one) in now.engines}
        unseen = set(unknown - sightings.keys())
        if len(unseen) <= len(lost):
            forgotten |= unseen
            unseen = set()
        for network_id in sorted(unseen - self._named):
            log.warning("no engine here knows network %s; should nobody use it: pynet delete-network ID", network_id)
        self._named = unseen
        for network_id in forgotten:
            log.warning("network %s is deleted: the engine has forgotten it", network_id[:12])
            self._delete(network_id)
        for network_id in sightings.keys() - now.ours | forgotten:
            self._save(SIGHTINGS, network_id, None)
        for lost_id in lost:
            self._save(LOST, lost_id, None)

    def _look(self) -> _Look:
        # First the records: what is made while engines are asked is none of this look's concern.
        ours = {row.id for row in self._store.rows(NETWORKS) if not row.pending}
        busy = self._store.parents(ENDPOINTS)
        engines = [api.ask(path) for path in self._paths if path.exists()]
        known = {network_id: engine.id for engine in engines for network_id in engine.networks}
        return _Look(frozenset(engine.id for engine in engines), known, frozenset(ours), frozenset(ours - busy))

    def _save(self, kind: Kind[R], row_id: str, record: R | None) -> None:
        """The record is as given, or gone if that is None."""
        self._store.intend(kind, row_id, "", record)
        self._store.commit(kind, row_id)
