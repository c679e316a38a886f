"""`pyvol serve` as a process of its own, and an engine that talks to it, as another."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.serving import ALONE, MORTAL, Serving

ENGINE = """
import sys
from pathlib import Path
from tests.serving import exchange
for line in sys.stdin:
    method, body = line.split(" ", 1)
    status, answer = exchange(Path(sys.argv[1]), "POST", "VolumeDriver." + method, body.encode())
    print(status, answer, flush=True)
"""


class Service(Serving):
    """A plugin that answers, on directories below `directory`. The process that calls `call` is its engine."""

    def __init__(self, directory: Path, *options: str, env: Mapping[str, str] = ALONE) -> None:
        super().__init__("pyvol", directory, *options, env=env)
        self.mount_root = self.state_dir / "mnt"
        self.start()

    def call(self, method: str, **request: object) -> dict[str, Any]:
        """Return the answer to a method of VolumeDriver, which must be a success."""
        status, answer = self.ask(f"VolumeDriver.{method}", request)
        assert status == 200, answer
        return answer

    def status(self, name: str) -> dict[str, Any]:
        """Return what Get says of the volume."""
        status: dict[str, Any] = self.call("Get", Name=name)["Volume"]["Status"]
        return status


class Engine:
    """Another process that calls the plugin, and can be killed."""

    def __init__(self, service: Service) -> None:
        self._process = subprocess.Popen(
            [*MORTAL, sys.executable, "-c", ENGINE, service.socket],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def call(self, method: str, **request: object) -> None:
        """The method of VolumeDriver was answered with success."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{method} {json.dumps(request)}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer.startswith("200 "), answer

    def kill(self) -> None:
        """It was killed."""
        self._process.kill()
        self._process.communicate()
