"""One of our plugins as a process on a lab host, started as the installed console script."""

import sys
from collections.abc import Mapping
from pathlib import Path

from integration.lab import confined, unixhttp
from integration.lab.daemon import Daemon
from integration.lab.namespace import Namespace

SOCKETS = "/run/docker/plugins"


def script(name: str) -> str:
    """The full name of an installed console script: it lies beside the running interpreter.

    Raises: LookupError when the product is not installed there.
    """
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise LookupError(f"cannot find {path}: install the product into the environment that runs the tests")
    return str(path)


def daemon(name: str, machine: Namespace, env: Mapping[str, str], confine: bool) -> Daemon:
    """The plugin of one host, not yet started; its state lies in a folder of its own below the host's.

    confine: with no more rights than its systemd unit leaves it.
    """
    socket = f"{SOCKETS}/{name}.sock"
    state = machine.root / name
    prefix = confined.prefix(name) if confine else []
    return Daemon(
        machine, name, [*prefix, script(name), "serve", "--socket", socket, "--state-dir", str(state)],
        answers=lambda: unixhttp.status(machine.path(socket), "POST", "/Plugin.Activate") == 200, env=env,
    )  # fmt: skip
