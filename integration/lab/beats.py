"""How long a service was away: the longest time between two moments at which it was there.

Run as a file: beats.py ADDRESS:PORT… asks each twenty times a second and prints "ADDRESS:PORT SECONDS" for each time at
which it answered, in seconds since the machine's start, until it is killed.
"""

import contextlib
import socket
import sys
import time

EVERY_S = 0.05
TIMEOUT_S = 0.5


def main(targets: list[str]) -> None:
    """Never returns."""
    while True:
        for target in targets:
            address, _, port = target.rpartition(":")
            # A port that is open answers before anybody accepts; only a word from the server says that it lives.
            with (
                contextlib.suppress(OSError),
                socket.create_connection((address, int(port)), timeout=TIMEOUT_S) as client,
            ):
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if client.recv(64):
                    print(target, time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
        time.sleep(EVERY_S)


def longest_gap(moments: list[float], start: float, end: float) -> float:
    """The longest time in seconds without a moment, from start to end."""
    inside = sorted(moment for moment in moments if start < moment < end)
    return max(after - before for before, after in zip([start, *inside], [*inside, end], strict=True))


if __name__ == "__main__":
    main(sys.argv[1:])
