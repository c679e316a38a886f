"""The first two packets of SCTP's handshake by raw sockets, for a kernel that has no SCTP itself but translates it.

Run as a file: sctp.py ask ADDRESS PORT, which prints "answered"; sctp.py answer PORT, which prints "ready" and then the
address of everybody who asks. Source: RFC 9260, 3.1, 3.3.2, 3.3.3.
"""

import errno
import secrets
import socket
import struct
import sys

PROTOCOL, INIT, INIT_ACK, STATE_COOKIE = 132, 1, 2, 7
HEADER, CHUNK = struct.Struct("!HHI4s"), struct.Struct("!BBHIIHHI")
TIMEOUT_S = 3


def crc32c(text: bytes) -> bytes:
    """The checksum as it is sent: its least significant byte comes first."""
    value = 0xFFFFFFFF
    for byte in text:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return struct.pack("<I", value ^ 0xFFFFFFFF)


def packet(source: int, target: int, tag: int, kind: int, parameters: bytes = b"") -> bytes:
    """One packet with one chunk; `tag` is the other side's."""
    chunk = CHUNK.pack(kind, 0, CHUNK.size + len(parameters), secrets.randbits(31) + 1, 65536, 1, 1, 1) + parameters
    checksum = crc32c(HEADER.pack(source, target, tag, bytes(4)) + chunk)
    return HEADER.pack(source, target, tag, checksum) + chunk


def received(raw: socket.socket) -> tuple[int, int, int, int, str]:
    """Source and destination port, tag, kind of the chunk and address of the next packet whose checksum is right."""
    while True:
        datagram, (address, _) = raw.recvfrom(65536)
        text = datagram[(datagram[0] & 15) * 4 :]
        source, target, _, checksum = HEADER.unpack_from(text)
        kind, _, _, tag, *_ = CHUNK.unpack_from(text, HEADER.size)
        if crc32c(text[:8] + bytes(4) + text[12:]) == checksum:
            return source, target, tag, kind, address


def ask(address: str, port: int) -> str:
    """The word for what came back from that address and port within the timeout."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL) as raw:
        raw.connect((address, 0))
        raw.settimeout(TIMEOUT_S)
        own = 40000 + secrets.randbelow(10000)
        raw.send(packet(own, port, 0, INIT))
        try:
            while received(raw)[:2] != (port, own):
                pass
        except TimeoutError:
            return "silent"
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise
            return "refused"
    return "answered"


def answer(port: int) -> None:
    """Never returns: everybody who starts an association is answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL) as raw:
        print("ready", flush=True)
        while True:
            source, target, tag, kind, address = received(raw)
            if (target, kind) == (port, INIT):
                cookie = struct.pack("!HH8s", STATE_COOKIE, 12, b"a cookie")
                raw.sendto(packet(port, source, tag, INIT_ACK, cookie), (address, 0))
                print(address, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        print(ask(sys.argv[2], int(sys.argv[3])))
    else:
        answer(int(sys.argv[2]))
