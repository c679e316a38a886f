"""Between the terminal and the streams of a process that an engine runs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import IO

from runtime.client.engine import Engine, EngineError

_DETACH = b"\x10\x11"  # ctrl-p ctrl-q, at which the engine ends the conversation
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def show(stream: IO[bytes], terminal: bool) -> None:
    """All that the process says is printed, stdout and stderr apart unless it has a terminal."""
    while head := stream.read1(65536) if terminal else stream.read(8):  # type: ignore[attr-defined]
        if terminal:
            _print(1, head)
        else:
            _print(head[0], stream.read(int.from_bytes(head[4:8], "big")))


def _print(stream: int, content: bytes) -> None:
    target = sys.stderr if stream == 2 else sys.stdout
    target.buffer.write(content)
    target.flush()


class Conversation:
    """The streams of one process, and this program's own."""

    def __init__(self, connection: socket.socket, stdin: bool, terminal: bool) -> None:
        self._connection, self._stdin, self._terminal = connection, stdin, terminal
        self.detached = False

    def run(self) -> None:
        """The process says no more, or the user has typed the keys that leave it alone: `detached`."""
        with raw() if self._terminal and self._stdin else nullcontext():
            if self._stdin:
                threading.Thread(target=self._type, daemon=True).start()
            with self._connection, self._connection.makefile("rb") as stream, suppress(ConnectionError):
                show(stream, self._terminal)

    def _type(self) -> None:
        last = b""
        with suppress(OSError):
            while typed := os.read(sys.stdin.fileno(), 8192):
                last = (last + typed)[-len(_DETACH) :] if self._terminal else b""
                self.detached = last == _DETACH
                self._connection.sendall(typed)
            self._connection.shutdown(socket.SHUT_WR)


@contextmanager
def raw() -> Iterator[None]:
    """The terminal passes on what is typed as it is, Ctrl-C too; afterwards it is as it was."""
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextmanager
def sized(engine: Engine, process: str) -> Iterator[None]:
    """The terminal of the process, `/containers/ID` or `/exec/ID`, is as large as this one."""

    def resize(*_: object) -> None:
        width, height = shutil.get_terminal_size()
        with suppress(EngineError):  # it has ended just now
            engine.ask("POST", f"{process}/resize", h=height, w=width)

    with handled((signal.SIGWINCH,), resize):
        resize()
        yield


@contextmanager
def passed_on(engine: Engine, container: str) -> Iterator[None]:
    """Signals, as of Ctrl-C, are the container's."""

    def pass_on(number: int, _: object) -> None:
        with suppress(EngineError):
            engine.ask("POST", f"/containers/{container}/kill", signal=number)

    with handled(_PASSED_ON, pass_on):
        yield


@contextmanager
def handled(numbers: tuple[signal.Signals, ...], call: Callable[[int, object], None]) -> Iterator[None]:
    """The signals are heard by `call`; afterwards by whoever heard them before."""
    before = {number: signal.signal(number, call) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
