"""Ports that an administrator publishes on a container that runs, for some or for all, for a while or for good.

The engine knows nothing of them: what it publishes itself stays as it is, and both end with the endpoint's sandbox.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from netplugin import external, wire
from netplugin.admin.wire import PublishRequest, UnpublishRequest, span
from netplugin.firewall.policy import gateway_mode
from netplugin.kinds import ENDPOINTS
from netplugin.machine import Probe
from netplugin.records import Endpoint, Network, Publication, PublishedPort
from netplugin.values import parse_sources
from pluginkit.errors import BadRequest, Conflict, NotFound, PluginError, describe
from pluginkit.server import Method, bound
from pluginkit.store import Store

log = logging.getLogger(__name__)

_AGAIN_S = 10.0
_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}


class ChangeEndpoint(Protocol):
    """How an endpoint is changed, under its network's lock."""

    def __call__(self, about: wire.EndpointRequest, change: Callable[[Network, Endpoint], Endpoint]) -> None:
        """The endpoint is as `change` says."""


class Publisher:
    """The publications of a running pynet."""

    def __init__(self, store: Store, change: ChangeEndpoint, probe: Probe) -> None:
        self._store = store
        self._change = change
        self._probe = probe
        self._sooner = threading.Event()

    def methods(self) -> tuple[Method, ...]:
        """Return every method, as this publisher answers it."""
        return bound(METHODS, self)

    def add(self, request: PublishRequest) -> None:
        """The ports are open on the host, from now on.

        Raises: BadRequest: that is no way to publish; Conflict: a port is taken; NotFound: there is no such endpoint.
        """
        last = request.HostPortEnd or request.HostPort
        if not 0 < request.HostPort <= last < 65536 or not 0 < request.Port <= 65535 - (last - request.HostPort):
            raise BadRequest(f"cannot publish {_told(request)}: ports go from 1 to 65535")
        try:
            sources = parse_sources(request.From) if request.From else ()
        except ValueError as exc:
            raise BadRequest(
                f"cannot publish for {request.From}: {exc}; write networks, lan or localhost, separated by commas"
            ) from exc
        until = time.time() + request.Seconds if request.Seconds else None
        bindings = [
            wire.PortBinding(
                _NUMBERS[request.Protocol], request.Port + n, HostIP=request.Address, HostPort=request.HostPort + n
            )
            for n in range(last - request.HostPort + 1)
        ]

        def opened(network: Network, endpoint: Endpoint) -> Endpoint:
            _refuse(request, network, endpoint, sources)
            runs = external.choose_ports(bindings, network, endpoint, range(0), self._probe.is_free)
            added = [Publication(run, sources, until) for run in runs]
            return replace(endpoint, publications=(*endpoint.publications, *added))

        self._change(wire.EndpointRequest(request.NetworkID, request.EndpointID), opened)
        log.info("%s of endpoint %s is published", _told(request), request.EndpointID[:12])
        self._sooner.set()

    def remove(self, request: UnpublishRequest) -> None:
        """The ports are closed, of which the first is `HostPort`.

        Raises: NotFound: no administrator has published them; Conflict: the engine has.
        """

        def closed(_: Network, endpoint: Endpoint) -> Endpoint:
            kept = tuple(each for each in endpoint.publications if not _is_meant(each.port, request))
            if len(kept) < len(endpoint.publications):
                return replace(endpoint, publications=kept)
            what = f"cannot unpublish {request.HostPort}/{request.Protocol}"
            if any(_is_meant(port, request) for port in endpoint.ports):
                raise Conflict(f"{what}: the container was started with it (-p), and ends with it")
            raise NotFound(f"{what}: it is not the first port of what was published; see pynet ports")

        self._change(wire.EndpointRequest(request.NetworkID, request.EndpointID), closed)
        log.info("%d/%s of endpoint %s is closed", request.HostPort, request.Protocol, request.EndpointID[:12])

    def expire(self, now: float) -> float | None:
        """What was published until `now` is closed; return when the next one will have to be, None: there is none."""
        due: list[float] = []
        for row in self._store.rows(ENDPOINTS):
            if row.current is None:
                continue
            times = [each.until for each in row.current.publications if each.until is not None]
            if any(until <= now for until in times):
                self._change(
                    wire.EndpointRequest(row.parent, row.id),
                    lambda _, endpoint: replace(endpoint, publications=_lasting(endpoint.publications, now)),
                )
                log.info("the time of ports of endpoint %s is over", row.id[:12])
            due += [until for until in times if until > now]
        return min(due, default=None)

    def watch(self) -> None:
        """Never returns: what is published for a while is closed when that is over."""
        due: float | None = 0.0  # once at the start
        while True:
            # A clock that is set forward must not leave a port open for long.
            wait = None if due is None else min(_AGAIN_S, max(0.0, due - time.time()))
            if asked := self._sooner.wait(wait):
                self._sooner.clear()
            now = time.time()
            # Only then: it goes through all endpoints.
            if asked or (due is not None and due <= now):
                try:
                    due = self.expire(now)
                except (PluginError, ExceptionGroup) as exc:
                    log.warning("cannot close what was published for a while: %s", describe(exc))
                    due = now + _AGAIN_S


METHODS = (
    Method("Ports.Publish", PublishRequest, Publisher.add),
    Method("Ports.Unpublish", UnpublishRequest, Publisher.remove),
)


def _refuse(request: PublishRequest, network: Network, endpoint: Endpoint, sources: tuple[str, ...]) -> None:
    """Raise BadRequest or Conflict if the ports cannot be opened there."""
    what = f"cannot publish {_told(request)}"
    if network.internal:
        raise BadRequest(f"{what}: the container's network is internal; nothing enters it")
    if not endpoint.sandbox:
        raise BadRequest(f"{what}: the endpoint is in no container")
    if sources and "routed" in (gateway_mode(network, "ipv4"), gateway_mode(network, "ipv6")):
        raise BadRequest(f"{what} for some: the network is routed; use -o publish_from when it is created")
    last = request.HostPortEnd or request.HostPort
    for port in endpoint.published:
        its_last = port.host_port + port.count - 1
        if port.protocol == request.Protocol and port.host_port <= last and request.HostPort <= its_last:
            raise Conflict(f"{what}: the container has {span(port.host_port, its_last)} already")


def _lasting(publications: Iterable[Publication], now: float) -> tuple[Publication, ...]:
    return tuple(each for each in publications if each.until is None or each.until > now)


def _is_meant(port: PublishedPort, request: UnpublishRequest) -> bool:
    return (port.protocol, port.host_port) == (request.Protocol, request.HostPort)


def _told(request: PublishRequest) -> str:
    return f"{span(request.HostPort, request.HostPortEnd or request.HostPort)}/{request.Protocol}"
