"""A client that prints the seconds of each connect(), one a line. Run as a file: connects.py ADDRESS PORT COUNT."""

import socket
import sys
import time


def main(address: str, port: int, count: int) -> None:
    """Each connection was a new one, and closed before the next."""
    for _ in range(count):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(5)
            started = time.perf_counter()
            client.connect((address, port))
            print(time.perf_counter() - started)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
