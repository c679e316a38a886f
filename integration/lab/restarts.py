"""A command by which programs on a lab host have its engine killed and started again."""

import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from integration.lab.host import Host

_EVERY_S = 0.1


@contextmanager
def restarts(host: Host) -> Iterator[str]:
    """Inside the block, the command ends when the engine was killed and answers again; containers' fate is its own."""
    asked: Path = host.machine.root / "restart"
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_EVERY_S):
            if asked.exists():
                host.engine.kill()
                host.ensure_running()
                asked.unlink()

    watcher = threading.Thread(target=watch)
    watcher.start()
    file = shlex.quote(str(asked))
    try:
        yield shlex.join(["sh", "-c", f"touch {file}; while [ -e {file} ]; do sleep 0.1; done"])
    finally:
        ended.set()
        watcher.join()
