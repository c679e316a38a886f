"""The threads that listen to etcd and keep this host alive there. No request waits for them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from netplugin.cluster import keys
from netplugin.cluster.directory import TTL_S, Directory, Superseded
from netplugin.cluster.driver import Addresses, ClusterDriver
from netplugin.cluster.etcd import Compacted, Watch
from netplugin.cluster.health import Health
from netplugin.records import Endpoint, Network
from pluginkit.errors import BadRequest, Unavailable, describe
from pluginkit.log import failure

log = logging.getLogger(__name__)

_BEAT_S = TTL_S / 3
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


class Agent:
    """This host's part in the cluster: what verbs ask of it, and what goes on beside them.

    There is one way back from whatever happened, be it a cut, a compaction, a leader that died or a release that
    etcd did not hear: everything is read again and compared with the records by value.
    """

    def __init__(
        self, directory: Directory, driver: ClusterDriver, addresses: Addresses, names: Callable[[], bool]
    ) -> None:
        """names: tells whether an engine can be asked for them."""
        self._directory, self._driver, self._addresses, self._names = directory, driver, addresses, names
        self._turn = threading.Lock()
        self._watch: Watch | None = None
        self._again = False
        self._registered = False
        self._health = Health()
        self._closed = threading.Event()
        self._threads = (
            threading.Thread(target=self._listen, name="cluster", daemon=True),
            threading.Thread(target=self._beat, name="alive", daemon=True),
        )

    def start(self) -> None:
        """Both threads run."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Both threads have ended; what they have learnt stays."""
        self._closed.set()
        self.look_again()
        for thread in self._threads:
            thread.join()

    def join(self, network: Network) -> Network:
        """Return the network as the cluster has it; this host is on it. Raises: as for Directory.join."""
        if network.options.dns and not self._names():
            raise BadRequest(
                "cannot create network: pynet asks the engine for containers' names, and finds no socket of it; set"
                " PYNET_ENGINES, or leave -o dns=true out, as a managed plugin has to"
            )
        return self._directory.join(network, shared=self._addresses.is_shared(network))

    def claim(self, network: Network, endpoint: Endpoint) -> None:
        """The addresses are the endpoint's in all the cluster, which knows it, or will when etcd is reached again.

        Raises: as for Directory.claim; Unavailable only if an address might be another host's as well.
        """
        name = network.overlay.name if network.overlay is not None else ""
        addresses = [address for address in (endpoint.address4, endpoint.address6) if address is not None]
        is_safe = bool(name) and all(self._addresses.grants(name, address) for address in addresses)
        try:
            # Nobody waits for an etcd that does not answer.
            if self._is_connected() or not is_safe:
                self._directory.claim(network, endpoint)
            else:
                # It may be read and compared just now, before the record of this is written.
                self.look_again()
        except Superseded:
            raise
        except Unavailable as exc:
            if not is_safe:
                raise
            failure(log, exc)
            self._directory.owes = True

    def release(self, network: Network, endpoint_id: str) -> None:
        """The endpoint's addresses are free, or will be when etcd is reached again."""
        if network.overlay is not None and network.overlay.name:
            try:
                if self._is_connected():
                    self._directory.release(network.overlay.name, endpoint_id, self._addresses.reserves)
                    return
            except Unavailable as exc:
                failure(log, exc)
            self.look_again()

    def look_again(self) -> None:
        """Everything is read and compared once more, soon."""
        with self._turn:
            self._again = True
            if self._watch is not None:
                self._watch.cancel()

    def health(self) -> Health:
        """Return how etcd fares."""
        with self._turn:
            return self._health

    def _is_connected(self) -> bool:
        with self._turn:
            return self._watch is not None

    def _listen(self) -> None:
        pause_s = _FIRST_PAUSE_S
        told = False
        while not self._closed.is_set():
            try:
                watch = self._watched()
                pause_s, told = _FIRST_PAUSE_S, False
                for change in watch:
                    self._driver.follow(change.entries)
            except Compacted:
                log.warning("etcd has forgotten what changed meanwhile; everything is read again")
            except Exception as exc:  # noqa: BLE001 - the next round tries again; the thread must live
                if not told:
                    failure(log, exc)
                told = True
                with self._turn:
                    self._health = replace(self._health, failure=describe(exc))
            with self._turn:
                self._watch = None
                at_once = self._again and not told
            if not at_once:
                self._closed.wait(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _watched(self) -> Watch:
        """Everything has been read; return what changes from then on."""
        with self._turn:
            self._again = False
        self._directory.owes = False
        if not self._registered or self._directory.is_forgotten():
            self._directory.register()
            self._registered = True
        listing = self._directory.etcd.list(keys.AT)
        self._driver.adopt(listing.entries, self._directory.etcd.list(keys.POOL).entries)
        watch = self._directory.etcd.watch(keys.AT, listing.revision)
        with self._turn:
            self._watch = watch
            self._health = replace(self._health, answered=datetime.now(UTC), failure="")
            if self._again or self._closed.is_set():
                watch.cancel()
        return watch

    def _beat(self) -> None:
        while not self._closed.wait(_BEAT_S):
            try:
                if not self._registered:
                    continue
                began = time.monotonic()
                if not self._directory.stay_alive():
                    # Others may take this host for dead by now.
                    self._registered = False
                    self.look_again()
                with self._turn:
                    answered, took_s = datetime.now(UTC), time.monotonic() - began
                    ahead_s = self._directory.etcd.ahead_s()
                    self._health = replace(self._health, answered=answered, took_s=took_s, ahead_s=ahead_s)
                    is_deaf = self._watch is not None and not self._directory.etcd.is_nearest(self._watch)
                if is_deaf or self._directory.owes:
                    self.look_again()
            except Unavailable as exc:
                # A connection that nobody cuts looks like one on which nothing happens.
                log.debug("%s", exc)
                self.look_again()
