"""Published SCTP ports, by real packets."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from integration.lab import sctp
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

SCTP = (sys.executable, "-IS", str(Path(sctp.__file__)))


@contextlib.contextmanager
def answering(host: Host, container: str, port: int) -> Iterator[Callable[[], list[str]]]:
    """Inside the block SCTP is answered in the container; yield a function that returns who has asked so far."""
    log = host.machine.root / "sctp.log"
    with log.open("wb") as output:
        server = host.machine.spawn(*host.network_of(container), *SCTP, "answer", str(port), output=output)
    try:
        wait_for("SCTP is answered", lambda: log.read_text().startswith("ready\n"))
        yield lambda: log.read_text().split()[1:]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(timeout=10)


def asked(machine: WireHost, address: str, port: int, entering: tuple[str, ...] = ()) -> str:
    return machine.run(*entering, *SCTP, "ask", address, str(port)).strip()


def test_a_published_port_answers_and_keeps_the_clients_address(host: Host, outside: WireHost) -> None:
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    host.idle("ann", "--network", "n1", "-p", "7000:7001/sctp", "-p", "7100-7109:7200-7209/sctp")
    host.idle("bob", "--network", "n1")
    with answering(host, "ann", 7001) as clients:
        assert asked(outside, host.address, 7000) == "answered"
        assert clients() == [outside.address]
        assert asked(host, host.address, 7000) == "answered"
        assert asked(host, host.address, 7000, host.network_of("bob")) == "answered"
        assert asked(outside, host.address, 7001) == "refused"
    with answering(host, "ann", 7205):
        assert asked(outside, host.address, 7105) == "answered"
    host.docker("rm", "-f", "ann")
    assert asked(outside, host.address, 7000) == "refused"
