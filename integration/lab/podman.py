"""Podman on a host of the lab: no daemon, a store of its own, and pyvol as containers.conf names it."""

import time
from subprocess import CompletedProcess

from integration.lab import image
from integration.lab.host import Host
from integration.lab.plugin import SOCKETS

IMAGE = f"localhost/{image.NAME}:latest"
CONTAINERS = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"

[engine.volume_plugins]
pyvol = "{sockets}/pyvol.sock"
"""
STORAGE = """
[storage]
driver = "vfs"
graphroot = "{root}/podman"
runroot = "/run/podman"
"""


class Podman:
    """The command on one host, whose pyvol runs."""

    def __init__(self, host: Host) -> None:
        self._host = host
        settings = {
            "CONTAINERS_CONF": CONTAINERS.format(sockets=SOCKETS),
            "CONTAINERS_STORAGE_CONF": STORAGE.format(root=host.root),
        }
        # Podman reads the docker command's configuration where that is named, and fails where there is none.
        self._env = {"DOCKER_CONFIG": ""}
        for variable, text in settings.items():
            path = host.root / f"{variable.lower()}"
            path.write_text(text)
            self._env[variable] = str(path)
        packed = host.root / "image.tar"
        packed.write_bytes(image.tar())
        self("import", str(packed), IMAGE)

    def __call__(self, *words: str) -> str:
        """The command has succeeded; its stdout is returned without the last newline."""
        return self._host.machine.run("podman", *words, env=self._env).rstrip("\n")

    def once(self, script: str, *options: str) -> str:
        """The shell script has succeeded in a container that is gone again; its stdout is returned."""
        return self(*self._run("--rm", *options), "sh", "-c", script)

    def idle(self, name: str, *options: str) -> None:
        """A container runs that does nothing."""
        self(*self._run("-d", "--name", name, *options), "sleep", "1000000")

    def failing(self, *words: str) -> tuple[str, float]:
        """The command has failed, as it should; return its stderr, and in how many seconds it said so."""
        started = time.monotonic()
        done: CompletedProcess[str] = self._host.machine.try_run("podman", *words, env=self._env)
        assert done.returncode != 0, f"podman {words} should have failed, but said {done.stdout!r}"
        return done.stderr.strip(), time.monotonic() - started

    def _run(self, *options: str) -> tuple[str, ...]:
        parent = f"--cgroup-parent={self._host.cgroup}"
        return "run", "--network=none", "--pull=never", parent, *options, IMAGE
