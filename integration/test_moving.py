"""From one form of the plugins to the other and back by the commands of docs/moving.md, word for word."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.lab import image, managed, plugin
from integration.lab.daemon import Daemon
from integration.lab.host import Host, drivers
from integration.lab.lab import Lab
from integration.lab.wirehost import WireHost

PAGE = Path(__file__).parents[1] / "docs" / "moving.md"
UNITS = "pynet.socket pynet.service pyvol.socket pyvol.service"
NAMES = ("pynet", "pyvol")
SERVICE = ("sh", "-c", "echo started >>/data/starts; exec httpd -f -h /www -p 80")


def commands(heading: str) -> list[str]:
    """The shell commands of a section, cut where systemd is asked, which the lab has not."""
    [section] = re.findall(rf"^## {heading}\n(.*?)^## ", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    [block] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [part.strip() for part in re.split(r"^(systemctl .*)$", block, flags=re.MULTILINE) if part.strip()]


class House:
    """A host whose folders are where the page says, with the legacy plugins as daemons of their own."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.legacy = self._daemons()
        for name in NAMES:
            (host.root / name).mkdir(exist_ok=True)
            # What a package has put there must not be what is tested.
            host.run("sh", "-c", f"rm -rf /var/lib/{name} && ln -s {host.root / name} /var/lib/{name}")
        (host.root / "build").mkdir()
        (host.root / "build" / "plugins").symlink_to(managed.built("pynet").parent)

    def _daemons(self) -> dict[str, Daemon]:
        env = {"PATH": self.host.kind.path()}
        return {name: plugin.daemon(name, self.host.machine, env, confine=False) for name in NAMES}

    def reboot(self) -> None:
        """Nothing is in memory any more, and the engine runs: it finds its way by the files alone."""
        self.host.reboot()
        self.legacy = self._daemons()
        self.host.engine.start(timeout_s=60, attempts=3)

    def systemctl(self, command: str) -> None:
        """What the command does to units was done to the lab's daemons."""
        if command == f"systemctl disable --now {UNITS}":
            for program in self.legacy.values():
                program.stop()
        elif command == f"systemctl enable --now {UNITS}":
            for program in self.legacy.values():
                program.start()
        else:
            assert command == "systemctl restart docker"
            self.host.engine.stop()
            self.host.engine.start(timeout_s=60, attempts=3)

    def move(self, heading: str, tag: str = "latest") -> None:
        """The section's commands have succeeded, with that tag where the page lets choose one."""
        for part in commands(heading):
            if part.startswith("systemctl"):
                self.systemctl(part)
            else:
                script = part.replace("tag=latest", f"tag={tag}")
                self.host.run("env", f"PATH={self.host.kind.path()}", "sh", "-ec", f"cd {self.host.root}\n{script}",
                              timeout_s=240)  # fmt: skip

    def end(self) -> None:
        """No plugin runs that is not the engine's."""
        for program in self.legacy.values():
            program.kill()


@pytest.fixture
def house(lab: Lab) -> Iterator[House]:
    """A host of the test's own, with an engine and no plugin yet."""
    none = drivers("bridge", "local", "auto", form="legacy", confined=False, iptables="nft")
    host = lab.bare_host(dataclasses.replace(none, firewall=lab.drivers.firewall))
    house = House(host)
    try:
        host.engine.start(timeout_s=60, attempts=3)
        host.import_image()
        yield house
    except BaseException as error:
        error.add_note(host.logs())
        raise
    finally:
        house.end()
        lab.discard(host)


def serve(host: Host, name: str, tag: str, number: int) -> None:
    """A stopped container exists with a network, a port and a volume of the drivers with that tag."""
    host.docker("network", "create", "-d", f"pynet{tag}", "--subnet", f"10.{number}.0.0/24", f"net-{name}")
    host.docker("volume", "create", "-d", f"pyvol{tag}", "-o", "size=64M", f"vol-{name}")
    options = ("--network", f"net-{name}", "-p", f"80{number}:80", "-v", f"vol-{name}:/data", "--stop-timeout", "1")
    host.docker("run", "-d", "--name", name, *options, image.NAME, *SERVICE)
    host.docker("stop", "-t", "0", name)


def works(house: House, outside: WireHost, name: str, number: int, starts: int) -> None:
    """The container starts, has its file, is reached from outside, and a new one gets all of it too; it is stopped."""
    host = house.host
    host.docker("start", name)
    assert outside.ask("http", host.address, int(f"80{number}")) == outside.address
    assert host.sh(name, "cat /data/starts").count("started") == starts
    assert "/dev/loop" in host.sh(name, "df /data")
    new = host.once(
        f"wget -qO- http://{name}/; cat /data/starts", "--network", f"net-{name}", "-v", f"vol-{name}:/data"
    )
    assert new.split() == ["lab", *["started"] * starts]
    host.docker("stop", "-t", "0", name)


def empties(host: Host) -> None:
    """Everything can be removed, and nothing of ours is left in the kernel."""
    host.remove_all()
    assert "pn-" not in host.run("ip", "-o", "link")
    assert "/dev/loop" not in host.run("cat", "/proc/mounts")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_legacy_to_managed_and_back(house: House, outside: WireHost) -> None:
    host = house.host
    for program in house.legacy.values():
        program.start()
    serve(host, "ann", "", 61)
    house.move("Legacy to managed")
    works(house, outside, "ann", 61, starts=2)
    serve(host, "bob", ":managed", 62)
    house.reboot()
    works(house, outside, "ann", 61, starts=3)
    house.move("Managed to legacy", tag="managed")
    works(house, outside, "ann", 61, starts=4)
    works(house, outside, "bob", 62, starts=2)
    house.move("Legacy to managed")
    works(house, outside, "ann", 61, starts=5)
    works(house, outside, "bob", 62, starts=3)
    empties(host)


@pytest.mark.timeout(300)
def test_managed_to_legacy(house: House, outside: WireHost) -> None:
    host = house.host
    for name in NAMES:
        host.docker("plugin", "create", name, str(managed.built(name)), timeout_s=180)
        host.docker("plugin", "enable", name)
    serve(host, "ann", ":latest", 61)
    house.move("Managed to legacy")
    works(house, outside, "ann", 61, starts=2)
    empties(host)
