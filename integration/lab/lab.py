"""A lab: one wire and the hosts on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from integration.lab.engine import Engine
from integration.lab.host import Drivers, Host
from integration.lab.wire import Wire
from integration.lab.wirehost import WireHost


class Lab:
    """Hosts on one wire; the standard host is made once and used by test after test until one spoils it."""

    def __init__(self, root: Path, engine: Engine, drivers: Drivers) -> None:
        self.root, self.engine, self.drivers = root, engine, drivers
        self.wire = Wire(root / "wire")
        self._others: list[WireHost] = []
        self._standard: Host | None = None
        self._made = 0

    def host(self) -> Host:
        """The standard host, running."""
        if self._standard is None:
            host = self._standard = self.bare_host()
            try:
                host.start()
            except BaseException as error:
                error.add_note(host.logs())
                self.discard(host)
                raise
        return self._standard

    def bare_host(self, drivers: Drivers | None = None) -> Host:
        """A new host on which nothing runs yet; whoever asked for it gives it to `discard`."""
        self._made += 1
        return Host(f"h{self._made}", self.root / f"h{self._made}", self.wire, self.engine, drivers or self.drivers)

    @contextmanager
    def own_host(self) -> Iterator[Host]:
        """Inside the block there is a new host on which nothing runs yet; an error of the block tells its logs."""
        host = self.bare_host()
        try:
            yield host
        except BaseException as error:
            error.add_note(host.logs())
            raise
        finally:
            self.discard(host)

    def discard(self, host: Host) -> None:
        """The host is gone; if it was the standard one, the next test gets a new one."""
        if host is self._standard:
            self._standard = None
        host.close()

    def wire_host(self, name: str) -> WireHost:
        """A new machine without an engine, there until the lab ends."""
        host = WireHost(name, self.root / name, self.wire)
        self._others.append(host)
        return host

    def close(self) -> None:
        """All hosts and the wire are gone."""
        if self._standard is not None:
            self.discard(self._standard)
        for host in self._others:
            host.close()
        self.wire.close()
