"""Tries many targets at once. Run as a file: reach.py "tcp ADDRESS PORT" "ping ADDRESS [BYTES]" …; a word for each.

answered, refused, unreachable, or silent when nothing came back within three seconds. A try in UDP counts as answered
when anything is sent back; a ping with a number of bytes is not taken apart on its way.
"""

import errno
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

TIMEOUT_S = 3
OUTCOMES = {
    errno.ECONNREFUSED: "refused", errno.ENETUNREACH: "unreachable", errno.EHOSTUNREACH: "unreachable",
    errno.EACCES: "unreachable",
}  # fmt: skip


def reach(target: str) -> str:
    """The outcome of one try, in a word."""
    protocol, address, *number = target.split()
    if protocol == "ping":
        size = ["-M", "do", "-s", *number] if number else []
        ping = ["ping", "-c1", f"-W{TIMEOUT_S}", f"-w{TIMEOUT_S}", *size, address]
        return "answered" if subprocess.run(ping, capture_output=True, check=False).returncode == 0 else "silent"
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as client:
        client.settimeout(TIMEOUT_S)
        try:
            client.connect((address, int(number[0])))
            if kind == socket.SOCK_DGRAM:
                client.send(b"who am I\n")
                client.recv(65536)
        except TimeoutError:
            return "silent"
        except OSError as error:
            return OUTCOMES.get(error.errno or 0, str(error))
    return "answered"


if __name__ == "__main__":
    with ThreadPoolExecutor(len(sys.argv)) as pool:
        print("\n".join(pool.map(reach, sys.argv[1:])))
