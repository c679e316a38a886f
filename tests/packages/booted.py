"""The package and the wheel's commands on a Debian 12 that is booted by systemd, with dockerd: `make packages`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.lab import image
from tests.packages import building
from tests.packages.machine import Machine, wait_for

UNITS = ("pynet.socket", "pyvol.socket", "pynet.service", "pyvol.service")
URL = "http://127.0.0.1:8080/"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return building.build_package(tmp_path_factory.mktemp("deb"))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine with docker, that was just installed and booted."""
    root = tmp_path / "root"
    subprocess.run(["cp", "-a", building.debian(building.ROOT / "build/debian-12"), root], check=True)
    machine = Machine(root)
    try:
        machine.boot()
        machine.run("docker", "import", "-", "lab", stdin=image.tar())
        yield machine
    finally:
        machine.fall_over()
        subprocess.run(["rm", "-rf", "--one-file-system", root], check=True)


def install(machine: Machine, package: Path) -> str:
    """What apt said, as a user would install a file."""
    (machine.root / "srv" / package.name).write_bytes(package.read_bytes())
    return machine.run("apt-get", "install", "-y", "--no-install-recommends", f"/srv/{package.name}")


def start_container(machine: Machine) -> None:
    """A container of both plugins answers on a published port, and comes back after a boot."""
    machine.run("docker", "network", "create", "-d", "pynet", "--subnet", "10.61.0.0/24", "blue")
    machine.run("docker", "volume", "create", "-d", "pyvol", "-o", "size=64M", "notes")
    serve = "test -e /data/index.html || echo kept >/data/index.html; exec httpd -f -h /data"
    machine.run("docker", "run", "-d", "--name", "web", "--restart", "always", "--network", "blue", "-p", "8080:80",
                "-v", "notes:/data", "lab", "sh", "-c", serve)  # fmt: skip
    wait_for(lambda: machine.tries("curl", "-sS", URL) == "kept\n", "answer of the container")


def states(machine: Machine) -> set[str]:
    return set(machine.tries("systemctl", "is-active", *UNITS).split())


def pid_of(machine: Machine, unit: str) -> str:
    return machine.run("systemctl", "show", "--value", "--property=MainPID", unit).strip()


@pytest.mark.timeout(1200)
def test_installed_rebooted_upgraded_removed_purged(machine: Machine, package: Path, tmp_path: Path) -> None:
    install(machine, building.of_version(package, "0.0.9-1", tmp_path))
    assert states(machine) == {"active"}
    start_container(machine)
    settings = machine.root / "etc/pyvol/pyvol.toml"
    settings.write_text(settings.read_text() + 'default-size = "128MiB"\n')

    machine.fall_over()
    machine.boot()
    assert states(machine) == {"active"}
    wait_for(lambda: machine.tries("curl", "-sS", URL) == "kept\n", "answer of the container after the reboot")
    container = machine.run("docker", "inspect", "--format", "{{.State.StartedAt}}", "web")

    old = pid_of(machine, "pynet.service")
    install(machine, package)
    assert "0.1.0" in machine.run("dpkg-query", "--show", "pynet-pyvol")
    assert pid_of(machine, "pynet.service") not in (old, "0")
    assert 'default-size = "128MiB"' in settings.read_text()
    assert machine.run("docker", "inspect", "--format", "{{.State.StartedAt}}", "web") == container
    assert machine.tries("curl", "-sS", URL) == "kept\n"
    machine.run("docker", "volume", "create", "-d", "pyvol", "small")
    assert "128MiB" in machine.run("docker", "volume", "inspect", "small")
    machine.run("docker", "volume", "rm", "small")

    # Stopped, and nothing lost: the container goes on, and the package that comes back takes up where it was.
    machine.run("apt-get", "remove", "-y", "pynet-pyvol")
    assert states(machine) == {"inactive"}
    assert machine.tries("curl", "-sS", URL) == "kept\n"
    install(machine, package)
    assert states(machine) == {"active"}
    assert machine.run("docker", "inspect", "--format", "{{.State.StartedAt}}", "web") == container
    machine.run("docker", "rm", "-f", "web")
    machine.run("docker", "network", "rm", "blue")

    said = machine.run("sh", "-c", "apt-get purge -y pynet-pyvol 2>&1")
    assert "/var/lib/pyvol is kept" in said
    assert not (machine.root / "var/lib/pynet").exists()
    assert not (machine.root / "etc/pyvol").exists()
    install(machine, package)
    assert machine.run("docker", "run", "--rm", "-v", "notes:/data", "lab", "cat", "/data/index.html") == "kept\n"
    machine.run("docker", "volume", "rm", "notes")
    machine.run("apt-get", "purge", "-y", "pynet-pyvol")
    left = machine.tries("sh", "-c", "ls -d /var/lib/py* /etc/py[nv]* /usr/lib/pynet-pyvol /run/docker/plugins/*")
    assert [line for line in left.splitlines() if not line.startswith("ls:")] == ["/var/lib/python"]


@pytest.mark.timeout(1200)
def test_the_wheels_install_and_uninstall(machine: Machine, package: Path) -> None:
    """What pip would have unpacked into an environment lies in /opt; no index is reached from there."""
    opt = machine.root / "opt/pynet"
    unpacked = machine.root / "unpacked"
    subprocess.run(["dpkg-deb", "--extract", package, unpacked], check=True)
    (unpacked / "usr/lib/pynet-pyvol").rename(opt)
    for name in ("pynet", "pyvol"):
        program = machine.root / "usr/local/bin" / name
        program.write_text((unpacked / "usr/bin" / name).read_text().replace("/usr/lib/pynet-pyvol", "/opt/pynet"))
        program.chmod(0o755)
        machine.run(name, "install", "--dry-run")
        assert states(machine) != {"active"}
        assert f"systemctl restart {name}.service" in machine.run(name, "install")
    assert states(machine) == {"active"}
    start_container(machine)
    machine.fall_over()
    machine.boot()
    wait_for(lambda: machine.tries("curl", "-sS", URL) == "kept\n", "answer of the container after the reboot")
    machine.run("docker", "rm", "-f", "web")
    machine.run("docker", "network", "rm", "blue")
    machine.run("docker", "volume", "rm", "notes")
    for name in ("pynet", "pyvol"):
        assert f"keep /var/lib/{name}" in machine.run(name, "uninstall")
    assert states(machine) == {"inactive"}
    assert not list((machine.root / "etc/systemd/system").rglob("py*"))
    machine.run("docker", "volume", "ls")
