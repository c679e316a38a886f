"""Measures how fast bytes flow. Run as a file: pour.py serve PORT, or pour.py send|take ADDRESS PORT BYTES.

The client prints bits per second, from the first byte until the last one has arrived.
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
                verb, amount = client.makefile("rb").readline().decode().split()
                if verb == "take":
                    client.sendall(bytes(int(amount)))
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


def _read(peer: socket.socket, amount: int) -> None:
    while amount > 0:
        got = len(peer.recv(min(CHUNK, amount)))
        if not got:
            raise OSError("the other side ended early")
        amount -= got


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    print(pour(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
