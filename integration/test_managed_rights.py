"""The managed plugins have no right too many: whichever is taken away from config.json, something stops working."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.managed import built

ConfigJSON = dict[str, object]


@pytest.fixture(scope="module")
def bare(lab: Lab) -> Iterator[Host]:
    """A host with an engine, and no plugin yet."""
    with lab.own_host() as host:
        host.engine.start(timeout_s=60, attempts=3)
        host.import_image()
        yield host


def network(host: Host) -> None:
    """A container is reached by its published port; this sets sysctls, links and rules."""
    host.run("sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward")
    host.docker("network", "create", "-d", "pynet:latest", "--subnet", "10.61.0.0/24", "n1")
    host.web("ann", "--network", "n1", "-p", "8080:80")
    assert host.ask("http", host.address, 8080, "/") == "lab"
    assert host.run("cat", "/proc/sys/net/ipv4/ip_forward").strip() == "1"


def volume(host: Host) -> None:
    """A container writes to a volume, which is found to be in use even by a process that no engine knows."""
    host.docker("volume", "create", "-d", "pyvol:latest", "-o", "size=64M", "v1")
    host.docker("run", "-d", "--name", "ann", "--network", "none", "-v", "v1:/data", "lab", "sleep", "1000")
    host.sh("ann", "echo kept >/data/file")
    assert "/dev/loop" in host.sh("ann", "df /data")


def who_has_a_volume(host: Host) -> None:
    """A process in a mount namespace of its own keeps a volume, and its name is told to who wants to remove it."""
    host.docker("volume", "create", "-d", "pyvol:latest", "-o", "size=64M", "v1")
    host.idle("ann", "--network", "none", "-v", "v1:/data")
    keep = "unshare -m sh -c 'while :; do sleep 1; done' >/dev/null 2>&1 &"
    host.run("nsenter", "-t", host.facts("ann", ".State.Pid"), "-m", "sh", "-c", keep)
    host.docker("rm", "-f", "ann")
    said = host.docker_error("volume", "rm", "v1")
    assert "sleep" in said or "(sh)" in said or " sh" in said


def without(key: str, *gone: str) -> Callable[[ConfigJSON], None]:
    def take(config: ConfigJSON) -> None:
        linux = config["Linux"]
        assert isinstance(linux, dict)
        if gone:
            assert gone[0] in linux[key]
            linux[key] = [right for right in linux[key] if right not in gone]
        elif key in linux:
            del linux[key]
        else:
            del config[key]

    return take


def without_mount(name: str) -> Callable[[ConfigJSON], None]:
    def take(config: ConfigJSON) -> None:
        mounts = config["Mounts"]
        assert isinstance(mounts, list)
        config["Mounts"] = [mount for mount in mounts if mount["Name"] != name]

    return take


# What is taken away, and what breaks then.
RIGHTS = {
    "pynet CAP_NET_ADMIN": (without("Capabilities", "CAP_NET_ADMIN"), network),
    "pynet CAP_SYS_ADMIN": (without("Capabilities", "CAP_SYS_ADMIN"), network),
    "pynet Network": (without("Network"), network),
    "pyvol CAP_SYS_ADMIN": (without("Capabilities", "CAP_SYS_ADMIN"), volume),
    "pyvol CAP_SYS_PTRACE": (without("Capabilities", "CAP_SYS_PTRACE"), who_has_a_volume),
    "pyvol AllowAllDevices": (without("AllowAllDevices"), volume),
    "pyvol PidHost": (without("PidHost"), who_has_a_volume),
    "pyvol PropagatedMount": (without("PropagatedMount"), volume),
    "pyvol dev": (without_mount("dev"), volume),
}


def install(host: Host, name: str, take: Callable[[ConfigJSON], None] | None) -> None:
    """The plugin is installed and enabled, without what was taken from its config.json."""
    folder, state = host.root / f"plugin-{name}", host.root / f"state-{name}"
    state.mkdir()
    folder.mkdir()
    config = json.loads((built(name) / "config.json").read_text())
    if take:
        take(config)
    (folder / "config.json").write_text(json.dumps(config))
    host.run("cp", "-al", str(built(name) / "rootfs"), str(folder / "rootfs"))
    host.docker("plugin", "create", name, str(folder), timeout_s=180)
    host.docker("plugin", "set", name, f"state.source={state}")
    host.docker("plugin", "enable", name)


def remove(host: Host, name: str) -> None:
    """Nothing of the plugin is left, whatever it was able to do."""
    for container in host.docker("ps", "-aq").split():
        host.docker("rm", "-f", container)
    host.machine.try_run(host.cli, "network", "rm", "n1")
    host.machine.try_run(host.cli, "volume", "rm", "-f", "v1")
    host.docker("plugin", "rm", "-f", name)
    for path in (f"plugin-{name}", f"state-{name}"):
        shutil.rmtree(host.root / path)


@pytest.mark.parametrize("scenario", [network, volume, who_has_a_volume])
def test_with_all_rights_it_works(bare: Host, scenario: Callable[[Host], None]) -> None:
    name = "pynet" if scenario is network else "pyvol"
    try:
        install(bare, name, None)
        scenario(bare)
    finally:
        remove(bare, name)


@pytest.mark.parametrize("right", RIGHTS)
def test_without_it_something_breaks(bare: Host, right: str) -> None:
    name = right.partition(" ")[0]
    take, scenario = RIGHTS[right]
    broken = False
    try:
        try:
            install(bare, name, take)
            scenario(bare)
        except AssertionError:
            broken = True
    finally:
        remove(bare, name)
    assert broken, f"{right} can be taken away: take it out of config.json"


@pytest.mark.parametrize("name", ["pynet", "pyvol"])
def test_every_capability_is_tried(name: str) -> None:
    config = json.loads(Path(built(name) / "config.json").read_text())
    tried = {right.partition(" ")[2] for right in RIGHTS if right.startswith(name)}
    assert set(config["Linux"]["Capabilities"]) <= tried
