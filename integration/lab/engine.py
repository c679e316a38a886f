"""The engines that the tests can run against, as data, and one running engine.

To add one: a line in ENGINES. The folders of unpacked packages lie in the directory that PYLAB_ENGINES names.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from integration.lab import unixhttp
from integration.lab.daemon import Daemon
from integration.lab.namespace import SYSTEM_PATH, Namespace

SOCKET = "/run/docker.sock"
BINARIES = ("usr/bin", "usr/sbin", "usr/libexec/docker")


@dataclass(frozen=True, slots=True)
class Engine:
    """How an engine is started: the program, its arguments ({root} is the host's folder), where its programs lie."""

    name: str
    program: str
    arguments: tuple[str, ...]
    unpacked: str = ""  # folder of an unpacked package; empty: the programs that the system has
    probe: str = "/_ping"

    def path(self) -> str:
        """The PATH with which it is started: an unpacked engine's own programs come first."""
        if not self.unpacked:
            return SYSTEM_PATH
        folder = Path(os.environ.get("PYLAB_ENGINES", "/opt/engines")) / self.unpacked
        return ":".join([*(str(folder / binaries) for binaries in BINARIES), SYSTEM_PATH])

    def find(self, program: str) -> str:
        """The full name of one of its programs.

        Raises: LookupError saying where was looked.
        """
        # pyrun lies beside the running interpreter.
        found = shutil.which(program, path=f"{self.path()}:{Path(sys.executable).parent}")
        if found is None:
            raise LookupError(f"cannot run engine {self.name}: no {program} in {self.path()}")
        return found


# The default bridge and the address pools are moved to 10.x, where no machine of the lab lives.
DOCKERD = (
    "--data-root={root}/data", f"--host=unix://{SOCKET}", "--bip=10.200.0.1/24",
    "--default-address-pool=base=10.201.0.0/16,size=24", "--cgroup-parent={cgroup}", "--shutdown-timeout=3",
    "--log-level=warn",
)  # fmt: skip
PYRUN = (
    "serve", f"--socket={SOCKET}", "--root={root}/data", "--exec-root=/run/pyrun", "--cgroup={cgroup}",
    "--default-address-pool=base=10.201.0.0/16,size=24", "--log-level=warning",
    "--no-live-restore",
)  # fmt: skip

ENGINES = {
    engine.name: engine
    for engine in (
        Engine("docker-20.10", "dockerd", DOCKERD),
        Engine("docker-26.1", "dockerd", DOCKERD, unpacked="docker-26.1"),
        Engine("docker-28.5", "dockerd", DOCKERD, unpacked="docker-28.5"),
        Engine("pyrun", "pyrun", PYRUN, unpacked="docker-28.5"),  # for its docker CLI
    )
}


def newest_cli() -> str:
    """The full name of a docker CLI that knows more than Debian 12's, for what only newer engines have.

    Raises: LookupError: `scripts/engines` has not fetched it.
    """
    return Engine("docker CLI", "docker", (), unpacked="cli-28.5").find("docker")


def daemon(engine: Engine, machine: Namespace, cgroup: str) -> Daemon:
    """The engine of one host, not yet started."""
    arguments = [argument.format(root=machine.root, cgroup=cgroup) for argument in engine.arguments]
    socket = machine.path(SOCKET)
    return Daemon(
        machine, engine.name, [engine.find(engine.program), *arguments],
        answers=lambda: unixhttp.status(socket, "GET", engine.probe) == 200, env={"PATH": engine.path()},
    )  # fmt: skip
