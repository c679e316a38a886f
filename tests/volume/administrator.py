"""The administrator at the command line of pyvol, beside a plugin that serves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.volume.serving import Service

PYVOL = Path(sys.executable).with_name("pyvol")


class Administrator:
    """Runs commands of pyvol against the service."""

    def __init__(self, service: Service) -> None:
        self.state_dir = service.state_dir

    def run(self, *words: str) -> str:
        """Return what the command prints, which must succeed."""
        done = self.done(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def error(self, *words: str) -> str:
        """Return the one line that the command, which must fail, says."""
        done = self.done(*words)
        assert (done.returncode, done.stdout) == (1, ""), done
        [line] = done.stderr.splitlines()
        return line

    def inspect(self, name: str) -> dict[str, Any]:
        """Return the volume's status."""
        [volume] = json.loads(self.run("inspect", name))
        status: dict[str, Any] = volume["Status"]
        return status

    def done(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Return what the command said and how it ended."""
        argv = [str(PYVOL), *words, "--state-dir", str(self.state_dir)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
