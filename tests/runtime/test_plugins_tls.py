"""A plugin behind TLS, which a .json file names: who shows no certificate, or the wrong one, is not talked to."""

from __future__ import annotations

import http.server
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.plugins.registry import Plugins
from runtime.plugins.transport import Unreachable
from runtime.state import State

ANSWERS = {
    "/Plugin.Activate": {"Implements": ["VolumeDriver"]},
    "/VolumeDriver.List": {"Volumes": [{"Name": "far"}], "Err": ""},
}
NAMES = ("server", "client", "stranger")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's and a client's certificates of it, and one that a stranger has made for himself."""
    folder = tmp_path_factory.mktemp("keys")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    address = ("-addext", "subjectAltName=IP:127.0.0.1")
    for name in ("ca", *NAMES):
        issuer = ("-CA", "ca.pem", "-CAkey", "ca.key") if name in ("server", "client") else ()
        said = ("-subj", f"/CN={name}", *(address if name != "ca" else ()))
        argv = ["openssl", "req", "-x509", *kind, *said, *issuer, "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(argv, cwd=folder, check=True, capture_output=True)
    return folder


class Plugin(http.server.BaseHTTPRequestHandler):
    """Answers as a volume driver that has one volume."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        content = json.dumps(ANSWERS[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port(keys: Path) -> Iterator[int]:
    """A plugin on the loopback that talks to those whom the authority knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "server.pem", keys / "server.key")
    context.load_verify_locations(keys / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with http.server.HTTPServer(("127.0.0.1", 0), Plugin) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        running = threading.Thread(target=server.serve_forever)
        running.start()
        yield server.server_port
        server.shutdown()
        running.join()


def listed(state: State, sockets: Path, specs: Path, port: int, tls: dict[str, object] | None) -> list[dict[str, str]]:
    """What the plugin lists to one who has such a file."""
    specs.mkdir(exist_ok=True)
    content = {"Addr": f"https://127.0.0.1:{port}", **({} if tls is None else {"TLSConfig": tls})}
    (specs / "far.json").write_text(json.dumps(content))
    plugins = Plugins(state, sockets, (specs,), sleep=lambda _: None)
    answer: dict[str, list[dict[str, str]]] = plugins.call("far", "VolumeDriver", "List", {})
    return answer["Volumes"]


def of(keys: Path, authority: str, name: str) -> dict[str, object]:
    """The part of a file that names certificates."""
    made = {"CAFile": f"{authority}.pem", "CertFile": f"{name}.pem", "KeyFile": f"{name}.key"}
    return {word: str(keys / file) for word, file in made.items()}


def test_who_has_the_certificates_is_answered(
    state: State, sockets: Path, tmp_path: Path, keys: Path, port: int
) -> None:
    assert listed(state, sockets, tmp_path / "specs", port, of(keys, "ca", "client")) == [{"Name": "far"}]
    unverified = {**of(keys, "ca", "client"), "CAFile": ""}
    assert listed(state, sockets, tmp_path / "specs", port, unverified) == [{"Name": "far"}], "as dockerd does"


@pytest.mark.parametrize(
    ("authority", "name"), [("stranger", "client"), ("ca", "stranger"), ("ca", "")], ids=["server", "client", "nobody"]
)
def test_who_has_others_is_not(
    state: State, sockets: Path, tmp_path: Path, keys: Path, port: int, authority: str, name: str
) -> None:
    tls = of(keys, authority, name) if name else {"CAFile": str(keys / "ca.pem")}
    with pytest.raises(Unreachable, match="far"):
        listed(state, sockets, tmp_path / "specs", port, tls)
