"""Between a client and the standard streams of a process."""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass

from runtime.api.streams import frame, has_hung_up
from runtime.errors import BadParameter
from runtime.process import STDOUT

_PACKET = 8192 + 1  # what conmon sends at once, with its stream byte


@dataclass(frozen=True)
class Wanted:
    """What the client wants to send and to hear. keys: the bytes that end it, typed one after another."""

    stdin: bool
    stdout: bool
    stderr: bool
    terminal: bool
    keys: bytes


def parse_keys(text: str) -> bytes:
    """Return the bytes of detach keys, `ctrl-p,ctrl-q` if none are given.

    Raises: BadParameter.
    """
    found = bytearray()
    for key in (text or "ctrl-p,ctrl-q").split(","):
        control = key.removeprefix("ctrl-")
        if len(key) == 1 and key.isascii():
            found += key.encode()
        elif control != key and len(control) == 1 and control.lower() in "abcdefghijklmnopqrstuvwxyz@[\\]^_":
            found.append(ord(control.upper()) & 0x1F)
        else:
            raise BadParameter(f"Invalid escape keys ({text}) provided")
    return bytes(found)


def converse(client: socket.socket, attachment: Future[socket.socket], wanted: Wanted) -> None:
    """The process has ended, or the client has gone, or has typed its keys."""
    while True:
        try:
            process = attachment.result(timeout=0.5)
            break
        except NotYet:
            if has_hung_up(client):
                attachment.cancel()
                return
        except CancelledError:
            return
    with process:
        threading.Thread(target=_send, args=(client, process, wanted), daemon=True).start()
        while packet := process.recv(_PACKET):
            is_stdout = packet[0] == STDOUT
            if wanted.stdout if is_stdout else wanted.stderr:
                client.sendall(packet[1:] if wanted.terminal else frame(1 if is_stdout else 2, packet[1:]))


def _send(client: socket.socket, process: socket.socket, wanted: Wanted) -> None:
    """What the client types is at the process's stdin, until it says no more."""
    held = b""
    with contextlib.suppress(OSError):
        while typed := client.recv(_PACKET - 1):
            if not wanted.stdin:
                continue
            if wanted.terminal:
                typed, held, left = without_keys(held + typed, wanted.keys)
            else:
                left = False
            if typed:
                process.sendall(typed)
            if left:
                break
        else:
            if wanted.stdin and not has_hung_up(client):
                process.shutdown(socket.SHUT_WR)
                return
            if not has_hung_up(client):
                return
    # Both ends of the conversation wake up when the process's side is shut.
    with contextlib.suppress(OSError):
        process.shutdown(socket.SHUT_RDWR)


def without_keys(typed: bytes, keys: bytes) -> tuple[bytes, bytes, bool]:
    """Return what goes on at once, the beginning of the keys that is held back, and whether they were typed whole."""
    where = typed.find(keys)
    if where >= 0:
        return typed[:where], b"", True
    for length in range(min(len(keys) - 1, len(typed)), 0, -1):
        if typed.endswith(keys[:length]):
            return typed[:-length], typed[-length:], False
    return typed, b"", False
