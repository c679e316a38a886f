"""A client that prints what a server answers. Run as a file: ask.py tcp|udp|http ADDRESS PORT [PATH].

Ends with 1 and the reason on stderr when there is no answer within three seconds, or nobody listens for one.
"""

import socket
import sys
import time

TIMEOUT_S = 3.0
LISTENS_S = 1.0


def connected(family: int, kind: int, target: tuple[object, ...]) -> socket.socket:
    """A socket to the target, which a program may be about to listen on: its container has just been started."""
    deadline = time.monotonic() + LISTENS_S
    while True:
        client = socket.socket(family, kind)
        client.settimeout(TIMEOUT_S)
        try:
            client.connect(target)
        except OSError as error:
            client.close()
            if not isinstance(error, ConnectionRefusedError) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return client


def main(protocol: str, address: str, port: int, path: str = "/") -> None:
    """The answer was printed; the headers of an HTTP answer were not."""
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    family, *_, target = socket.getaddrinfo(address, port, type=kind)[0]
    with connected(family, kind, target) as client:
        if protocol == "udp":
            client.send(b"who am I\n")
            print(client.recv(65536).decode().strip())
            return
        if protocol == "http":
            client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b"")).decode()
        print(answer.partition("\r\n\r\n")[2].strip() if protocol == "http" else answer.strip())


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:5])
    except OSError as error:
        sys.exit(f"{sys.argv[1]} {sys.argv[2]} {sys.argv[3]}: {error}")
