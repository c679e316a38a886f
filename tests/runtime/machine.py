"""A machine on which pyrun serves, asked by the stock docker CLI."""

import shutil
import subprocess
import sys
from pathlib import Path

from integration.lab import unixhttp
from integration.lab.daemon import Daemon
from integration.lab.machine import remove_cgroups
from integration.lab.namespace import Namespace

SOCKET = "/run/pyrun/pyrun.sock"


class Machine:
    """A network, mount and process namespace with a /run of its own, in which pyrun serves."""

    def __init__(self, root: Path) -> None:
        self.namespace = Namespace("pyrun", root)
        self.root = root
        self.namespace.run("mount", "-t", "tmpfs", "tmpfs", "/run")
        # Apart from those of other runs; the namespace ends before its control groups can be removed by name.
        self.cgroup = f"/pyrun-test-{self.namespace.pid}"
        program = str(Path(sys.executable).with_name("pyrun"))
        self._argv = [program, "serve", "--socket", SOCKET, "--root", str(root / "pyrun"), "--cgroup", self.cgroup]
        self.daemon = self.another()

    def another(self, *options: str) -> Daemon:
        """A daemon with these options, for the same containers; not yet started."""
        socket = self.namespace.path(SOCKET)
        answers = lambda: unixhttp.status(socket, "GET", "/_ping") == 200  # noqa: E731
        return Daemon(self.namespace, "pyrun", [*self._argv, *options], answers=answers)

    def docker(self, *arguments: str, stdin: str = "") -> str:
        """The docker CLI has succeeded; its output is returned."""
        return self.namespace.run("docker", *arguments, env={"DOCKER_HOST": f"unix://{SOCKET}"}, stdin=stdin).strip()

    def try_docker(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """The docker CLI has ended."""
        return self.namespace.try_run("docker", *arguments, env={"DOCKER_HOST": f"unix://{SOCKET}"}, stdin=stdin)

    def close(self) -> None:
        """Nothing is left: containers, mounts and control groups are gone."""
        if names := self.docker("ps", "-aq").split():
            self.docker("rm", "-f", *names)
        self.daemon.stop()
        self.namespace.close()
        remove_cgroups(self.cgroup)
        shutil.rmtree(self.root)
