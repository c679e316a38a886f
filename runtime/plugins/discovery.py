"""Where a plugin of a name answers. Source: moby pkg/plugins/discovery.go.

A socket wins over a file; the first file that is there counts, even if it is broken.
"""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from runtime.errors import BadParameter, Failed, NotFound

SOCKETS = Path("/run/docker/plugins")
SPECS = (Path("/etc/docker/plugins"), Path("/usr/lib/docker/plugins"))


@dataclass(frozen=True)
class Address:
    """Where a plugin answers. socket: path of a Unix socket, or empty with host and port. tls: None for plain HTTP."""

    socket: str = ""
    host: str = ""
    port: int = 0
    tls: ssl.SSLContext | None = None


def find(name: str, sockets: Path = SOCKETS, specs: tuple[Path, ...] = SPECS) -> Address:
    """Return where the plugin `name` answers.

    Raises: BadParameter: no plugin can have this name; NotFound: there is none; Failed: its file cannot be used.
    """
    if not name or "/" in name or name in (".", "..") or "\0" in name:
        raise BadParameter(f"cannot look up plugin {name!r}: a plugin has the name of a file; name one without /")
    for path in (sockets / f"{name}.sock", sockets / name / f"{name}.sock"):
        if path.is_socket():
            return Address(socket=str(path))
    for folder in specs:
        for path in (folder / f"{name}.spec", folder / name / f"{name}.spec",
                     folder / f"{name}.json", folder / name / f"{name}.json"):  # fmt: skip
            if path.is_file():
                return _read(path)
    places = ", ".join(map(str, (sockets, *specs)))
    raise NotFound(f'cannot use plugin "{name}": plugin "{name}" not found in {places}; start it, or name another')


def names(sockets: Path = SOCKETS, specs: tuple[Path, ...] = SPECS) -> list[str]:
    """Return the names of all plugins that are there to be asked, sorted."""
    found = set()
    for folder in (sockets, *specs):
        for path in folder.iterdir() if folder.is_dir() else ():
            inner = [path / f"{path.name}{suffix}" for suffix in (".sock", ".spec", ".json")]
            for each in inner if path.is_dir() else [path]:
                fits = each.is_socket() if each.suffix == ".sock" else each.suffix in (".spec", ".json")
                if fits and each.exists() and (each.suffix == ".sock") == (folder == sockets):
                    found.add(each.stem)
    return sorted(found)


def _read(path: Path) -> Address:
    try:
        if path.suffix == ".spec":
            url, tls = path.read_text(encoding="utf-8").strip(), None
            # dockerd does not look at the certificate either, where no CA is named.
            if url.startswith("https://"):
                tls = _context({})
        else:
            content = json.loads(path.read_text(encoding="utf-8"))
            url = content["Addr"]
            tls = _context(content["TLSConfig"]) if content.get("TLSConfig") is not None else None
        parts = urlsplit(url)
        if parts.scheme == "unix" and parts.path:
            return Address(socket=parts.path)
        if parts.scheme in ("tcp", "http", "https") and parts.hostname:
            return Address(host=parts.hostname, port=parts.port or (443 if tls else 80), tls=tls)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Failed(f"cannot use plugin file {path}: {exc!r}; repair or remove it") from exc
    raise Failed(f"cannot use plugin file {path}: Unknown protocol in {url!r}; use unix://, tcp:// or https://")


def _context(wanted: dict[str, object]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(wanted.get("CAFile") or "") or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if wanted.get("InsecureSkipVerify") or not wanted.get("CAFile"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if wanted.get("CertFile"):
        context.load_cert_chain(str(wanted["CertFile"]), str(wanted.get("KeyFile") or wanted["CertFile"]))
    return context
