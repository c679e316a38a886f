"""Pid 1 of a lab machine: says "ready", then reaps orphans until it is killed.

Run as a file, not imported. A plain `sleep` would not do: engines ask whether a pid is alive, and a zombie is.
"""

import os
import signal


def main() -> None:
    """Never returns."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    print("ready", flush=True)
    while True:
        signal.sigwait({signal.SIGCHLD})
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            pass


if __name__ == "__main__":
    main()
