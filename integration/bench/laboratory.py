"""Where everything is measured: a lab of its own, of which nothing is left, however the measuring ends."""

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from integration.lab import machine
from integration.lab.engine import Engine
from integration.lab.host import Drivers
from integration.lab.lab import Lab


@contextmanager
def laboratory(engine: Engine, drivers: Drivers, beneath: str | None = None) -> Iterator[Lab]:
    """Inside the block there is a lab, below the folder `beneath`. A SIGTERM ends the block, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    root = Path(tempfile.mkdtemp(prefix="pylab-", dir=beneath))
    lab = Lab(root / "bench", engine, drivers)
    with ExitStack() as stack:
        stack.callback(machine.remove_folder, root)
        stack.callback(machine.remove_cgroups, f"/{root.name}-*")
        stack.callback(machine.detach_loops, root)
        stack.callback(lab.close)
        yield lab
