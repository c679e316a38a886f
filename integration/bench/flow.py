"""How fast bytes flow between machines and containers, and how long one takes there and back."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from integration.lab import pour
from integration.lab.deadline import wait_for
from integration.lab.wirehost import WireHost

POUR = (sys.executable, "-IS", str(Path(pour.__file__)))
PORT = 9000


@contextlib.contextmanager
def pouring(host: WireHost, name: str, entering: tuple[str, ...]) -> Iterator[None]:
    """Inside the block somebody takes on PORT what is poured. entering: the command that starts another one there."""
    log = host.machine.root / f"pour-{name}.log"
    with log.open("wb") as output:
        server = host.machine.spawn(*entering, *POUR, "serve", str(PORT), output=output)
    try:
        wait_for("pour serves", lambda: "ready" in log.read_text())
        yield
    finally:
        server.kill()
        server.wait(timeout=10)


def bits_a_second(host: WireHost, entering: tuple[str, ...], address: str, amount: int, port: int = PORT) -> float:
    """Bits a second of one TCP connection that sends so many bytes."""
    return float(host.run(*entering, *POUR, "send", address, str(port), str(amount)))


def round_trips(host: WireHost, entering: tuple[str, ...], address: str, count: int, port: int = PORT) -> list[float]:
    """Return the seconds of so many round trips of one byte over one TCP connection."""
    return [float(line) for line in host.run(*entering, *POUR, "trips", address, str(port), str(count)).split()]
