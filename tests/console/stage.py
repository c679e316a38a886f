"""pynet, pyvol, a console and an engine that names things, as real processes in namespaces of their own."""

from __future__ import annotations

import http.server
import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from tests.network.conftest import network_namespace
from tests.network.engine import Engine
from tests.serving import MORTAL, Serving
from tests.volume.conftest import mounts_apart
from tests.volume.serving import Service

PYNET = Path(sys.executable).with_name("pynet")


class Stage:
    """What a console shows, and the console. names: of networks and of endpoints' containers, by ID."""

    def __init__(self, directory: Path, names: dict[str, str], containers: dict[str, tuple[str, str]]) -> None:
        for program in ("pynet", "pyvol"):
            (directory / program).mkdir()
        self.named = directory / "engine.sock"
        self._server = _NamingServer(self.named, names, containers)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.pynet = Serving("pynet", directory / "pynet", "--reconcile-every", "3600")
        self.pynet.start()
        self.pyvol = Service(directory / "pyvol", "--reconcile-every", "3600")
        self.engine = Engine(lambda path, body: self.pynet.ask(path[1:], json.loads(body)))
        self._log = (directory / "console.log").open("w")
        dirs = ["--state-dir", str(self.pynet.state_dir), "--pyvol-state-dir", str(self.pyvol.state_dir)]
        argv = [*MORTAL, str(PYNET), "console", "--port", "0", *dirs, "--engine", str(self.named)]
        self.console = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert self.console.stdout is not None
        # With the key; what is before it is the address.
        self.opened = self.console.stdout.readline().strip()
        assert self.opened, (directory / "console.log").read_text()
        self.address, _, self.key = self.opened.partition("/?key=")

    def close(self) -> None:
        """None of them runs."""
        self.console.terminate()
        self.console.communicate(timeout=30)
        self._log.close()
        for plugin in (self.pynet, self.pyvol):
            plugin.kill()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def stage(directory: Path, names: dict[str, str], containers: dict[str, tuple[str, str]]) -> Iterator[Stage]:
    """Inside the block all of that runs, and this thread is where it does."""
    with ExitStack() as stack:
        stack.enter_context(network_namespace())
        os.system("ip link add eth0 type bridge && ip address add 192.0.2.2/24 dev eth0 && ip link set eth0 up")
        os.system("ip route add default via 192.0.2.1")
        stack.enter_context(mounts_apart(directory))
        yield stack.enter_context(closing(Stage(directory, names, containers)))


class _NamingServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, names: dict[str, str], containers: dict[str, tuple[str, str]]) -> None:
        """Answers as an engine would that has called things so: see Docker's API, /networks and /containers/json."""
        answers: dict[str, Any] = {
            "/networks": [{"Id": key, "Name": name, "Driver": "pynet"} for key, name in names.items()],
            "/containers/json": [
                {
                    "Names": [f"/{name}"], "State": "running", "Mounts": [],
                    "NetworkSettings": {"Networks": {"n": {"EndpointID": key, "NetworkID": network}}},
                }
                for key, (name, network) in containers.items()
            ],
        }  # fmt: skip

        class Answer(http.server.BaseHTTPRequestHandler):
            said: ClassVar = answers

            def do_GET(self) -> None:
                content = json.dumps(self.said[self.path.partition("?")[0]]).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(str(path), Answer)
