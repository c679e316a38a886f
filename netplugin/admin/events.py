"""What the moves of records are to people: networks, endpoints and published ports that come and go. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from netplugin.admin.wire import span
from netplugin.kinds import ENDPOINTS, NETWORKS
from netplugin.records import Endpoint, Network, PublishedPort
from pluginkit.events.ring import Happening


def happenings(kind: str, record_id: str, parent: str, before: Any, after: Any) -> Iterator[Happening]:
    """Yield what has happened when a record of that kind was moved from `before` to `after`; None: there was none."""
    if kind == NETWORKS.name:
        yield from _network(record_id, before, after)
    elif kind == ENDPOINTS.name:
        yield from _endpoint(record_id, parent, before, after)


def _network(network_id: str, before: Network | None, after: Network | None) -> Iterator[Happening]:
    if after is None:
        yield Happening("network-removed", network_id)
    elif before is None:
        yield Happening("network-created", network_id, "", ", ".join(str(each.pool) for each in after.subnets))


def _endpoint(
    endpoint_id: str, network_id: str, before: Endpoint | None, after: Endpoint | None
) -> Iterator[Happening]:
    def happening(kind: str, text: str = "") -> Happening:
        return Happening(kind, endpoint_id, network_id, text)

    was, now = (each.published if each else () for each in (before, after))
    if before is None and after is not None:
        addresses = (each for each in (after.address4, after.address6) if each)
        yield happening("endpoint-created", ", ".join(str(each.ip) for each in addresses))
    yield from (happening("port-closed", text) for text in _told(port for port in was if port not in now))
    was_joined, is_joined = (bool(each and each.sandbox) for each in (before, after))
    if is_joined and not was_joined:
        yield happening("container-joined")
    yield from (happening("port-opened", text) for text in _told(port for port in now if port not in was))
    if was_joined and not is_joined:
        yield happening("container-left")
    if after is None:
        yield happening("endpoint-removed")


def _told(ports: Iterable[PublishedPort]) -> Iterator[str]:
    for port in ports:
        last = port.count - 1
        to = span(port.container_port, port.container_port + last)
        hosts = " ".join(str(host) for host in (port.host4, port.host6) if host)
        yield f"{hosts} {span(port.host_port, port.host_port + last)}/{port.protocol} to {to}"
