"""Measures how fast bytes flow. Run as a file: pour.py serve PORT, or pour.py send|take|trips ADDRESS PORT AMOUNT.

The client prints bits per second, from the first of so many bytes until the last one has arrived; or for `trips` the
seconds that each of so many round trips of one byte took, a line each.
"""

import socket
import sys
import time

CHUNK = 64 * 1024
TIMEOUT_S = 15.0


def serve(port: int) -> None:
    """Never returns."""
    with socket.create_server(("", port)) as server:
        print("ready", flush=True)
        while True:
            client, _ = server.accept()
            with client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                verb, amount = client.makefile("rb", 0).readline().decode().split()
                if verb == "take":
                    client.sendall(bytes(int(amount)))
                elif verb == "trips":
                    for _ in range(int(amount)):
                        client.sendall(client.recv(1))
                else:
                    client.sendall(b"go\n")
                    _read(client, int(amount))
                    client.sendall(b"all\n")


def pour(verb: str, address: str, port: int, amount: int) -> float:
    """Bits per second."""
    with socket.create_connection((address, port), TIMEOUT_S) as server:
        server.sendall(f"{verb} {amount}\n".encode())
        if verb == "take":
            start = time.monotonic()
            _read(server, amount)
        else:
            _read(server, 3)
            start = time.monotonic()
            server.sendall(bytes(amount))
            _read(server, 4)
        return amount * 8 / (time.monotonic() - start)


def trips(address: str, port: int, count: int) -> list[float]:
    """Seconds from a byte that is sent until its echo."""
    found = []
    with socket.create_connection((address, port), TIMEOUT_S) as server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.sendall(f"trips {count}\n".encode())
        for _ in range(count):
            start = time.perf_counter()
            server.sendall(b"?")
            _read(server, 1)
            found.append(time.perf_counter() - start)
    return found


def _read(peer: socket.socket, amount: int) -> None:
    while amount > 0:
        got = len(peer.recv(min(CHUNK, amount)))
        if not got:
            raise OSError("the other side ended early")
        amount -= got


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    words = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    print(*trips(*words) if sys.argv[1] == "trips" else [pour(sys.argv[1], *words)], sep="\n")
