"""A state directory that is full, or that nobody can write to: it is said at once, nothing is lost or half made."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import serve_argv, until
from tests.volume.conftest import attached_below
from tests.volume.serving import Service

MEBIBYTE = 1024 * 1024


@pytest.fixture
def service(mount_namespace: None, tmp_path: Path) -> Iterator[Service]:
    """A plugin with a disk of 96 MiB of its own, and a mounted volume."""
    (tmp_path / "state").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96M", "none", tmp_path / "state"], check=True)
    service = Service(tmp_path, "--default-size", "32M", "--reconcile-every", "3600")
    service.call("Create", Name="v", Opts={"sparse": "false"})
    place = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    (place / "file").write_text("kept")
    yield service
    service.kill()


def remount(service: Service, how: str) -> None:
    """The disk of the state directory can be written to, or not; then those who write to it must have gone."""
    argv = ["mount", "-o", f"remount,{how}", str(service.state_dir)]
    until(lambda: subprocess.run(argv, capture_output=True, check=False).returncode == 0, f"the disk is {how}")


def fill(big: Path) -> None:
    """The disk has room for nothing more, because of that file."""
    with pytest.raises(OSError, match="No space"):
        big.write_bytes(bytes(96 * MEBIBYTE))


def refused(service: Service, method: str, **request: object) -> str:
    """What was said to the request, which must be refused."""
    status, answer = service.ask(f"VolumeDriver.{method}", request)
    assert status == 500
    return str(answer["Err"])


def in_order(service: Service) -> None:
    """Assert that there is one volume, which nobody has, with its data, and that all goes on as ever."""
    assert [volume["Name"] for volume in service.call("List")["Volumes"]] == ["v"]
    assert {entry.name for entry in (service.state_dir / "volumes").iterdir()} - {".trash"} == {"v"}
    until(lambda: attached_below(service.state_dir) == [], "the loop device is gone")
    place = Path(service.call("Mount", Name="v", ID="c2")["Mountpoint"])
    assert (place / "file").read_text() == "kept"
    service.call("Unmount", Name="v", ID="c2")
    service.call("Remove", Name="v")


def test_a_full_disk(service: Service) -> None:
    big = service.state_dir / "big"
    fill(big)
    said = refused(service, "Create", Name="w", Opts={})
    assert said.startswith("cannot give w 32MiB: the disk has 0B available"), said
    place = Path(service.call("Path", Name="v")["Mountpoint"])
    (place / "more").write_bytes(bytes(8 * MEBIBYTE))
    assert service.status("v")["health"] == "ok"
    big.unlink()
    service.call("Unmount", Name="v", ID="c1")
    in_order(service)


def test_a_second_plugin_is_refused_and_the_first_does_not_notice(service: Service, tmp_path: Path) -> None:
    (tmp_path / "same").symlink_to(service.state_dir)
    for state_dir in (service.state_dir, tmp_path / "same"):
        argv = serve_argv("pyvol", tmp_path / "second.sock", state_dir)
        second = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 1
        [line] = second.stderr.splitlines()
        assert f"cannot use the state directory {service.state_dir}: another process serves from it" in line
    assert not (tmp_path / "second.sock").exists()
    place = Path(service.call("Path", Name="v")["Mountpoint"])
    assert (place / "file").read_text() == "kept"
    service.call("Unmount", Name="v", ID="c1")
    in_order(service)


def test_it_does_not_start_where_it_cannot_write(service: Service) -> None:
    service.call("Unmount", Name="v", ID="c1")
    service.kill()
    remount(service, "ro")
    argv = serve_argv("pyvol", service.socket, service.state_dir)
    started = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert started.returncode == 1
    assert str(service.state_dir) in started.stderr
    assert "Read-only" in started.stderr or "readonly" in started.stderr
    assert "Traceback" not in started.stderr
    remount(service, "rw")
    service.start()
    in_order(service)
