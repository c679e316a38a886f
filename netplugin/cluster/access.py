"""Settings of the cluster: from what an operator wrote to what cannot be wrong."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote

from netplugin.cluster.etcd import Access, Server
from netplugin.machine import Address
from netplugin.values import parse_vtep
from pluginkit.errors import BadRequest

_PORT = 2379


@dataclass(frozen=True)
class ClusterSettings:
    """Where the cluster is. ca, certificate, key: files, for etcds:// only. vtep "": by the route to etcd."""

    url: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    vtep: str = ""


def parse_access(settings: ClusterSettings) -> Access:
    """Return how to speak to etcd.

    Raises: BadRequest: the URL is none of ours, or a file cannot be used.
    """
    scheme, _, rest = settings.url.partition("://")
    credentials, _, hosts = rest.rpartition("@")
    user, _, password = credentials.partition(":")
    try:
        servers = tuple(_parse_server(part.strip()) for part in hosts.rstrip("/").split(","))
    except ValueError as exc:
        raise BadRequest(_SPELLING.format(settings.url.replace(password, "…") if password else settings.url)) from exc
    if scheme not in ("etcd", "etcds"):
        raise BadRequest(_SPELLING.format(settings.url.replace(password, "…") if password else settings.url))
    tls = _parse_tls(settings) if scheme == "etcds" else None
    return Access(servers, tls, unquote(user), unquote(password))


def parse_own_vtep(settings: ClusterSettings) -> Address | None:
    """Return the address that was set, None if none was. Raises: BadRequest: it is none."""
    try:
        return ip_address(parse_vtep(settings.vtep)) if settings.vtep else None
    except ValueError as exc:
        raise BadRequest(f"cannot use the VTEP {settings.vtep!r}: it takes an IP address of this host") from exc


_SPELLING = "cannot use the cluster {!r}: it takes etcd://[USER:PASSWORD@]HOST[:PORT],… or etcds://…"


def _parse_server(text: str) -> Server:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(_PORT)
    if not host or (":" in host and not host.startswith("[")):
        raise ValueError
    return Server(host.strip("[]"), int(port))


def _parse_tls(settings: ClusterSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as exc:
        raise BadRequest(f"cannot use the certificates of the cluster: {exc}; are they PEM files?") from exc
    return context
