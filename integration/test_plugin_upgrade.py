"""`docker plugin upgrade` from a registry: the next version comes, and networks, volumes and containers stay."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.managed import built
from integration.lab.registry import registry as running_registry
from integration.lab.wirehost import WireHost
from integration.test_managed import NAMES, WRITING, empties, goes_on, installed, is_whole

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
VERSIONS = ("1", "2")


def publish(host: Host, registry: str, name: str, version: str) -> None:
    """The registry has the plugin, in which a file and the description say the version."""
    folder = host.root / f"{name}-{version}"
    folder.mkdir()
    config = json.loads((built(name) / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "Description": f"version {version}"}))
    host.run("cp", "-al", str(built(name) / "rootfs"), str(folder / "rootfs"))
    (folder / "rootfs" / "version").write_text(version)
    reference = f"{registry}/{name}:{version}"
    host.docker("plugin", "create", reference, str(folder), timeout_s=180)
    host.docker("plugin", "push", reference, timeout_s=180)
    host.docker("plugin", "rm", reference)


@pytest.fixture(scope="module")
def registry(lab: Lab) -> Iterator[str]:
    """The address of a registry that has both versions of both plugins."""
    with lab.own_host() as host, running_registry(host) as address:
        host.engine.argv.append(f"--insecure-registry={address}")
        host.engine.start(timeout_s=60, attempts=3)
        for name in NAMES:
            for version in VERSIONS:
                publish(host, address, name, version)
        host.engine.stop()
        yield address


@pytest.fixture
def customer(lab: Lab, registry: str) -> Iterator[Host]:
    """A host whose engine knows the registry, without a plugin yet, and with the default folders for their state."""
    with lab.own_host() as host:
        host.engine.argv.append(f"--insecure-registry={registry}")
        host.engine.start(timeout_s=60, attempts=3)
        host.import_image()
        for name in NAMES:
            # On the host's own disk; what a package has put there must not be what is tested.
            folder = host.root / f"default-{name}"
            folder.mkdir()
            host.run("sh", "-c", f"rm -rf /var/lib/{name} && ln -s {folder} /var/lib/{name}")
        yield host


def install(host: Host, registry: str, *, elsewhere: bool) -> None:
    """Version 1 of both serves "ann" on port 8080, "bob" who writes, both to be kept alive, and "carl" who is stopped.

    elsewhere: their state is not where config.json has it.
    """
    for name in NAMES:
        settings = (f"state.source={state(host, name)}",) if elsewhere else ()
        how = ("--grant-all-permissions", "--disable", "--alias", name)
        host.docker("plugin", "install", *how, f"{registry}/{name}:1", *settings, timeout_s=180)
        installed(host, name).enable()
    host.docker("network", "create", "-d", "pynet:latest", "--subnet", "10.61.0.0/24", "n1")
    host.docker("volume", "create", "-d", "pyvol:latest", "-o", "size=64M", "v1")
    host.web("ann", "--network", "n1", "-p", "8080:80")
    writing = ("sh", "-c", f"touch /data/log; {WRITING}")
    host.docker("run", "-d", "--name", "bob", "--network", "n1", "-v", "v1:/data", "lab", *writing)
    host.docker("run", "--name", "carl", "--network", "n1", "-v", "v1:/data", "lab", "sh", "-c", "wc -l </data/log")


def state(host: Host, name: str) -> Path:
    folder = host.root / f"elsewhere-{name}"
    folder.mkdir(exist_ok=True)
    return folder


def upgrade(host: Host, registry: str, name: str) -> None:
    """Version 2 is there, disabled as it must be for that, under the same name and ID."""
    before = installed(host, name).ident
    assert "must be disabled" in host.docker_error("plugin", "upgrade", name, f"{registry}/{name}:2")
    host.docker("plugin", "disable", "-f", name)
    how = ("--grant-all-permissions", "--skip-remote-check")  # which would ask whether another tag is meant
    host.docker("plugin", "upgrade", *how, name, f"{registry}/{name}:2", timeout_s=180)
    assert host.docker("plugin", "inspect", "--format", "{{.Config.Description}}", name) == "version 2"
    assert installed(host, name).ident == before


def is_new(host: Host, name: str) -> None:
    """What runs is version 2."""
    assert Path(f"/proc/{installed(host, name).pid}/root/version").read_text() == "2"


def test_with_the_state_where_it_is_by_default(customer: Host, registry: str, outside: WireHost) -> None:
    install(customer, registry, elsewhere=False)
    for name in NAMES:
        upgrade(customer, registry, name)
        goes_on(customer, outside)
        installed(customer, name).enable()
        is_new(customer, name)
    is_whole(customer, outside)
    assert int(customer.docker("start", "-a", "carl").split()[0]) > 0
    empties(customer)


def test_with_the_state_elsewhere(customer: Host, registry: str, outside: WireHost) -> None:
    """The engine forgets where it is: pynet does not start without it, pyvol knows nothing; set again, all is there."""
    install(customer, registry, elsewhere=True)
    upgrade(customer, registry, "pynet")
    customer.docker_error("plugin", "enable", "pynet")
    assert "cannot begin with no records" in installed(customer, "pynet").log_tail()
    upgrade(customer, registry, "pyvol")
    installed(customer, "pyvol").enable()
    goes_on(customer, outside)
    customer.docker("plugin", "disable", "-f", "pyvol")
    for name in NAMES:
        customer.docker("plugin", "set", name, f"state.source={state(customer, name)}")
        installed(customer, name).enable()
        is_new(customer, name)
    is_whole(customer, outside)
    assert int(customer.docker("start", "-a", "carl").split()[0]) > 0
    empties(customer)
