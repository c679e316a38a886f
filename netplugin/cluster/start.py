"""The cluster's parts put together, and where this host is in it."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from ipaddress import ip_address

from netplugin.cluster.access import ClusterSettings, parse_access, parse_own_vtep
from netplugin.cluster.directory import Directory
from netplugin.cluster.etcd import Etcd, Server
from netplugin.kinds import HOST
from netplugin.machine import Address, Way
from netplugin.records import HostIdentity
from pluginkit.errors import BadRequest
from pluginkit.store import Store

_THIS = "this"


def open_directory(
    store: Store,
    settings: ClusterSettings,
    way_to: Callable[[Address], Way | None],
    mtu_of: Callable[[Address], int | None],
    public_key: Callable[[], str],
) -> Directory:
    """Return the cluster as this host sees it; nobody has been asked yet.

    Raises: BadRequest: the settings cannot be used on this host.
    """
    access = parse_access(settings)
    vtep = parse_own_vtep(settings) or _vtep(access.servers, way_to)
    room = mtu_of(vtep)
    if room is None:
        raise BadRequest(f"cannot be {vtep} in the cluster: no link of this host has that address; set PYNET_VTEP")
    return Directory(Etcd(access), _identity(store), socket.gethostname(), vtep, room, way_to, public_key)


def _identity(store: Store) -> str:
    """Return this host's ID, which is drawn once."""
    row = store.get(HOST, _THIS)
    if row is not None and row.current is not None:
        return row.current.id
    identity = HostIdentity(secrets.token_hex(16))
    store.intend(HOST, _THIS, "", identity)
    store.commit(HOST, _THIS)
    return identity.id


def _vtep(servers: tuple[Server, ...], way_to: Callable[[Address], Way | None]) -> Address:
    """Return the address from which this host speaks to etcd."""
    ways = [way for server in servers for address in _addresses(server) if (way := way_to(address)) is not None]
    # Where etcd runs on this host itself it may be known by its loopback address, which nobody else can use.
    for way in sorted(ways, key=lambda way: way.local):
        if not way.source.is_loopback:
            return way.source
    raise BadRequest("cannot tell by which address other hosts reach this one: no way leads to etcd; set PYNET_VTEP")


def _addresses(server: Server) -> list[Address]:
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [ip_address(where[0]) for *_, where in found]
