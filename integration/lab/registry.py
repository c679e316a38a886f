"""Debian's registry of images and plugins on a machine of the lab."""

from collections.abc import Iterator
from contextlib import contextmanager

from integration.lab.daemon import Daemon
from integration.lab.wirehost import WireHost

PORT = 5000
CONFIG = """
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: ':{port}'}}
"""


@contextmanager
def registry(machine: WireHost) -> Iterator[str]:
    """Inside the block the machine answers as a registry without TLS; yields ADDRESS:PORT, as references begin."""
    config = machine.root / "registry.yml"
    config.write_text(CONFIG.format(folder=machine.root / "registry", port=PORT))
    ask = ("curl", "-sf", f"http://127.0.0.1:{PORT}/v2/")
    server = Daemon(
        machine.machine, "registry", ["docker-registry", "serve", str(config)],
        answers=lambda: machine.machine.try_run(*ask).returncode == 0,
    )  # fmt: skip
    try:
        server.start()
        yield f"{machine.address}:{PORT}"
    finally:
        server.kill()
