"""A client that prints what a server answers. Run as a file: ask.py tcp|udp|http ADDRESS PORT [PATH].

Ends with 1 and the reason on stderr when there is no answer within three seconds.
"""

import socket
import sys

TIMEOUT_S = 3.0


def main(protocol: str, address: str, port: int, path: str = "/") -> None:
    """The answer was printed; the headers of an HTTP answer were not."""
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    family, *_, target = socket.getaddrinfo(address, port, type=kind)[0]
    with socket.socket(family, kind) as client:
        client.settimeout(TIMEOUT_S)
        client.connect(target)
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
