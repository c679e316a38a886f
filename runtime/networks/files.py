"""/etc/hosts and /etc/resolv.conf of a container. They are bind-mounted: written in place, never replaced."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runtime.networks.dns import ADDRESS
from runtime.networks.records import Endpoint, Target

HOST = Path("/etc/resolv.conf")
HEAD = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


@dataclass(frozen=True)
class HostResolver:
    """What the machine's resolv.conf says."""

    servers: tuple[str, ...]
    search: tuple[str, ...]
    options: tuple[str, ...]


def host_resolver(path: Path = HOST) -> HostResolver:
    """Return it; without the file, nothing."""
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    for line in lines:
        key, *words = line.split() or [""]
        if key == "nameserver":
            found[key] += words[:1]
        elif key in found:  # the last line of its kind counts
            found[key] = words
    return HostResolver(*(tuple(found[key]) for key in ("nameserver", "search", "options")))


def write(target: Target, endpoints: Iterable[Endpoint], gateway: str) -> None:
    """Both files are as the container's networks are now. gateway: what `host-gateway` stands for."""
    hosts = HEAD
    for entry in target.extra_hosts:
        name, _, address = entry.partition(":")
        hosts += f"{gateway if address == 'host-gateway' else address.strip('[]')}\t{name}\n"
    for endpoint in endpoints:
        for own in (endpoint.address4, endpoint.address6):
            hosts += f"{own.ip}\t{target.hostname}\n" if own else ""
    host = host_resolver()
    search = target.dns_search or host.search
    options = target.dns_options or host.options
    if not any(option.startswith("ndots:") for option in options):
        options = (*options, "ndots:0")
    resolv = f"nameserver {ADDRESS[0]}\n"
    # `--dns-search .` is for none at all.
    resolv += f"search {' '.join(search)}\n" if search and search != (".",) else ""
    resolv += f"options {' '.join(options)}\n"
    for name, content in (("hosts", hosts), ("resolv.conf", resolv)):
        (target.files / name).write_text(content, encoding="utf-8")
