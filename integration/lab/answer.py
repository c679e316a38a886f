"""A server that answers each client with the address that it saw. Run as a file: answer.py tcp|udp PORT.

It answers IPv4 and IPv6 clients, prints "ready" once it listens, and runs until it is killed.
"""

import socket
import sys


def main(protocol: str, port: int) -> None:
    """Never returns."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET6, kind) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            server.listen(64)
        print("ready", flush=True)
        while True:
            if kind == socket.SOCK_STREAM:
                client, peer = server.accept()
                with client:
                    client.sendall(_seen(peer[0]))
            else:
                _, peer = server.recvfrom(65536)
                server.sendto(_seen(peer[0]), peer)


def _seen(address: str) -> bytes:
    return address.removeprefix("::ffff:").encode() + b"\n"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
