"""Whether anybody has a file open, which the file tells by granting a lease or not.

Source: fcntl(2), "Leases".
"""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path


def is_written(path: Path) -> bool:
    """Tell whether the file may be open for writing, by whomever: a program, a loop device. False: there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Who opens the file for writing while we have the lease waits until we give it up, and we get a signal: one
        # that does nothing by default. SIGIO would end us.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        # EAGAIN: it is. Anything else, such as a filesystem without leases, leaves it open.
        return True
    finally:
        os.close(descriptor)
    return False
