"""A machine on the wire without an engine: somebody outside."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from integration.lab.deadline import wait_for
from integration.lab.namespace import Namespace
from integration.lab.wire import Wire

ASK, ANSWER = (str(Path(__file__).with_name(name)) for name in ("ask.py", "answer.py"))


class WireHost:
    """A machine with an address on the wire, which can ask and answer."""

    def __init__(self, name: str, root: Path, wire: Wire) -> None:
        self.name, self.root, self.wire = name, root, wire
        self.boot()

    def boot(self) -> None:
        """The machine is on the wire."""
        self.machine = Namespace(self.name, self.root)
        self.address, self.address6 = self.wire.attach(self.machine)

    def run(self, *argv: str, stdin: str = "", timeout_s: float = 60.0) -> str:
        """The command has succeeded on this host; its stdout is returned."""
        return self.machine.run(*argv, stdin=stdin, timeout_s=timeout_s)

    def ask(
        self, protocol: str, address: str, port: int, path: str = "/cgi-bin/peer", entering: tuple[str, ...] = ()
    ) -> str:
        """What a server on that port answers to this host (protocol: tcp, udp or http).

        `entering` is a command that starts another one elsewhere, such as in a container's network namespace.
        Raises: CommandFailed when nobody answers within three seconds.
        """
        return self.run(*entering, sys.executable, "-IS", ASK, protocol, address, str(port), path).strip()

    @contextlib.contextmanager
    def answering(self, protocol: str, port: int, entering: tuple[str, ...] = ()) -> Iterator[None]:
        """Inside the block a server on the port tells each client the address that it saw.

        Raises: AssertionError with the server's last words when it could not listen.
        """
        log = self.machine.root / f"answer-{protocol}-{port}.log"
        with log.open("wb") as output:
            server = self.machine.spawn(*entering, sys.executable, "-IS", ANSWER, protocol, str(port), output=output)
        try:
            wait_for(f"server on {protocol} {port}", lambda: log.stat().st_size > 0)
            assert log.read_text() == "ready\n", log.read_text()
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait(timeout=10)

    def close(self) -> None:
        """The host is gone."""
        self.machine.close()
