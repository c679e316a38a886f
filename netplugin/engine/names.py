"""What containers are called, as the engine says, outside of every request: a driver is not told.

Each engine's events say which container may have another name; that one is looked at. An endpoint whose name was not
heard, as an event can be missed and some engines tell of few, is asked for again. Source: Docker Engine API, /events.
"""

from __future__ import annotations

import http.client
import logging
import queue
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from netplugin.dns.driver import NameDriver
from pluginkit.engine.api import get, lines
from pluginkit.log import failure

log = logging.getLogger(__name__)

_FILTERS = '{"type":["container","network"],"event":["start","rename","connect"]}'
_EVENTS = f"/events?filters={quote(_FILTERS)}"
_EVERY_S = 2.0
_AGAIN_S = 1.0
_CANNOT_ASK = (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError)


class _Hint(NamedTuple):
    """Something may have another name: a container of that engine; "": any of them."""

    engine: Path
    container: str


class HeardNames:
    """Listens to engines and tells the driver. engines: Unix sockets; those that do not exist are waited for."""

    def __init__(self, engines: Iterable[Path], driver: NameDriver) -> None:
        self._engines, self._driver = tuple(engines), driver
        self._hints: queue.Queue[_Hint | None] = queue.Queue()
        self._closed = threading.Event()
        self._worker = threading.Thread(target=self._work, name="names", daemon=True)

    def start(self) -> None:
        """The threads run: one that looks, and one for each engine, which ends with the process."""
        self._worker.start()
        for engine in self._engines:
            threading.Thread(target=self._listen, args=(engine,), name="events", daemon=True).start()

    def close(self) -> None:
        """Nothing is told any more."""
        self._closed.set()
        self._hints.put(None)
        self._worker.join()

    def _listen(self, engine: Path) -> None:
        while not self._closed.is_set():
            try:
                if engine.exists():
                    with lines(engine, _EVENTS) as events:
                        # After it listens, so that nothing falls between.
                        self._hints.put(_Hint(engine, ""))
                        for event in events:
                            self._hints.put(_Hint(engine, _container(event)))
            except _CANNOT_ASK as exc:
                log.debug("cannot listen to the engine on %s: %s", engine, exc)
            self._closed.wait(_AGAIN_S)

    def _work(self) -> None:
        while not self._closed.is_set():
            try:
                hint = self._hints.get(timeout=_EVERY_S)
                hints = [hint] if hint is not None else []
            except queue.Empty:
                nameless = any(not endpoint.names for endpoint in self._driver.joined().values())
                hints = [_Hint(engine, "") for engine in self._engines if nameless and engine.exists()]
            for each in hints:
                try:
                    self._look(each)
                except _CANNOT_ASK as exc:
                    log.debug("cannot ask the engine on %s for names: %s", each.engine, exc)
                except Exception as exc:  # noqa: BLE001 - the next hint may be a better one; the thread must live
                    failure(log, exc)

    def _look(self, hint: _Hint) -> None:
        """What the engine calls the container, or all of them, is what the records say."""
        wanted = self._driver.joined()
        if not wanted:
            return
        containers = [hint.container]
        if not hint.container:
            listed = get(hint.engine, "/containers/json")
            containers = [each["Id"] for each in listed if wanted.keys() & _endpoints(each).keys()]
        for container in containers:
            self._name(hint.engine, container)

    def _name(self, engine: Path, container: str) -> None:
        try:
            content = get(engine, f"/containers/{quote(container, safe='')}/json")
        except ValueError:
            # It has ended meanwhile.
            return
        own = content["Name"].removeprefix("/")
        wanted = self._driver.joined()
        for endpoint_id, settings in _endpoints(content).items():
            if endpoint_id in wanted:
                more = (*(settings.get("Aliases") or ()), *(settings.get("DNSNames") or ()))
                self._driver.name(endpoint_id, (own, *more))


def _endpoints(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings of a container's endpoints, by the endpoint's ID."""
    networks = (container["NetworkSettings"]["Networks"] or {}).values()
    return {settings["EndpointID"]: settings for settings in networks if settings["EndpointID"]}


def _container(event: dict[str, Any]) -> str:
    """Return the ID of the container that an event is about."""
    actor = event["Actor"]
    return str(actor["Attributes"].get("container", "") if event["Type"] == "network" else actor["ID"])
