"""Podman builds plugin-configs/Containerfile; it pulls nothing, and its store is a folder of the test's own."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.packages.building import ROOT

BASE = "localhost/debian"
CONTAINERFILE = ROOT / "plugin-configs" / "Containerfile"
SETTINGS = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
tmp_dir = "{folder}/libpod"

[network]
network_config_dir = "{folder}/networks"
"""


class Podman:
    """The command with a store of its own, below a short name: podman takes no longer one for what is of this boot."""

    def __init__(self, scratch: Path) -> None:
        self._store = ("--root", str(scratch / "store"), "--runroot", str(scratch / "run"), "--storage-driver", "vfs")
        settings = scratch / "containers.conf"
        settings.write_text(SETTINGS.format(folder=scratch))
        self._env = {**os.environ, "CONTAINERS_CONF": str(settings)}

    def __call__(self, *argv: str | Path, timeout_s: float = 120.0) -> None:
        """The command has succeeded."""
        command = ["podman", *self._store, *argv]
        done = subprocess.run(command, cwd=ROOT, env=self._env, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False, timeout=timeout_s)  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def build(self, target: Path, *options: str, timeout_s: float = 120.0) -> None:
        """What the Containerfile, or the stage that an option names, results in is in the folder `target`."""
        # By chroot alone, so that no container network and no cgroup is made; --pull=never: no registry is asked.
        how = ("--isolation", "chroot", "--network", "host", "--layers=false", "--pull=never")
        self("build", *how, *options, "-f", CONTAINERFILE, "--output", target, ".", timeout_s=timeout_s)


@contextmanager
def own_podman() -> Iterator[Podman]:
    """Inside the block podman has an empty store, of which nothing is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="pod-") as scratch:
        yield Podman(Path(scratch))


def with_pip_as_here(scratch: Path) -> list[str]:
    """The options of a build in which pip is set as on this machine, and finds the files that its settings name."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    config = scratch / "pip.conf"
    volumes, settings = {config: "/etc/pip.conf"}, {}
    for line in listed.splitlines():
        # global.timeout='60'; those of the environment, which come last, are called :env:.timeout.
        name, _, value = line.partition("=")
        name, text = name.rpartition(".")[2], ast.literal_eval(value)
        if Path(text).is_absolute() and Path(text).exists():
            # Not where it is here: a build writes to its own /etc/ssl/certs.
            volumes[Path(text)] = text = f"/srv/pip/{name}"
        settings[name] = text.replace("\n", "\n ")
    config.write_text("[global]\n" + "".join(f"{name} = {text}\n" for name, text in settings.items()))
    return [f"--volume={path}:{inside}:ro" for path, inside in volumes.items()]
