"""Keeps an eye on the ways to peers, in a thread of its own, and does what helps."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Protocol

from netplugin.kinds import NETWORKS, REMOTE_HOSTS
from netplugin.overlay.decide import is_alone
from netplugin.overlay.ways import State, Underlay, Way
from pluginkit.errors import PluginError
from pluginkit.log import failure
from pluginkit.store import Store

log = logging.getLogger(__name__)

_TICK_S, _EVERY_S, _AGAIN_S = 2.0, 60.0, 15.0
_WORDS: dict[State, str] = {
    "good": "peer %s is reached by UDP port %d, its checksums are right",
    "checksums": "packets to %s by UDP port %d have wrong checksums if the network card computes them",
    "narrow": "large packets to %s by UDP port %d get lost on the way; small ones arrive",
    "silent": "peer %s does not answer on UDP port %d; does pynet run there, and do firewalls let that through?",
}


class Probe(Protocol):
    """What asks peers, and answers them."""

    def serve(self, wanted: Iterable[Underlay]) -> None:
        """Peers of these underlays are answered, and no others."""

    def probe(self) -> list[Way]:
        """Return how the way to each peer is."""


class WayKeeper:
    """Knows how it is to each peer. remedy: from now on checksums are computed in software."""

    def __init__(self, store: Store, prober: Probe, remedy: Callable[[], None]) -> None:
        self._store, self._prober, self._remedy = store, prober, remedy
        self._wanted: set[Underlay] = set()
        self._due = 0.0
        self._closed = threading.Event()
        self.ways: tuple[Way, ...] = ()
        self.in_software = False

    def run(self) -> None:
        """Returns once it is closed. Ways are tried when peers come or go, each minute, and sooner if one is bad."""
        while not self._closed.wait(_TICK_S):
            try:
                self.look()
            except Exception as exc:  # noqa: BLE001 - the next look may find it better; the thread must live
                failure(log, exc)

    def close(self) -> None:
        """It looks no more."""
        self._closed.set()

    def look(self) -> None:
        """Peers are answered as the records say; the ways to them are known if it was time to try them."""
        wanted = underlays(self._store)
        self._prober.serve(wanted)
        now = time.monotonic()
        if wanted != self._wanted:
            # Those who have just come take a moment, too.
            self._wanted, self._due = wanted, now + _TICK_S
        if now < self._due:
            return
        known = {(way.peer, way.port): way.state for way in self.ways}
        self.ways = tuple(self._prober.probe())
        is_bad = any(way.state in ("silent", "narrow") for way in self.ways)
        self._due = time.monotonic() + (_AGAIN_S if is_bad else _EVERY_S)
        for way in self.ways:
            if known.get((way.peer, way.port)) != way.state:
                level = logging.INFO if way.state == "good" else logging.WARNING
                log.log(level, _WORDS[way.state], way.peer, way.port)
        if not self.in_software and any(way.state == "checksums" for way in self.ways):
            self.in_software = True
            log.warning("checksums of overlays are computed in software from now on, until pynet starts again")
            try:
                self._remedy()
            except PluginError as exc:
                failure(log, exc)


def underlays(store: Store) -> set[Underlay]:
    """Return where this host's overlays have their peers."""
    local: dict[tuple[int, int], str] = {}
    peers: dict[tuple[int, int], set[str]] = {}
    mtu: dict[tuple[int, int], int] = {}
    for row in store.rows(NETWORKS):
        network = row.current
        # What WireGuard carries comes whole, or not at all.
        if network is None or network.overlay is None or is_alone(network) or network.options.encrypted:
            continue
        overlay = network.overlay
        place = overlay.port, ip_address(overlay.vtep).version
        local.setdefault(place, overlay.vtep)
        mtu[place] = max(network.mtu, mtu.get(place, 0))
        hosts = (host.current.vtep for host in store.rows(REMOTE_HOSTS, parent=row.id) if host.current is not None)
        peers.setdefault(place, set()).update(overlay.peers, hosts)
    return {Underlay(place[0], local[place], frozenset(found), mtu[place]) for place, found in peers.items()}
