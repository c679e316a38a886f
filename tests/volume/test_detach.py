"""A volume that a process keeps busy when its last container ends: it is named, and `pyvol detach` lets go of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serving import until
from tests.volume.administrator import Administrator
from tests.volume.conftest import attached_below, mounted_below
from tests.volume.serving import Service

FILESYSTEMS = [("ext4", "32M"), ("xfs", "320M"), ("btrfs", "128M")]
# Keeps a file open, and writes to it what it is told.
WRITER = "exec 3>>file; echo ready; while read line; do echo $line >&3; echo done; done"


@pytest.fixture
def service(mount_namespace: None, tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "allowed" / "dir").mkdir(parents=True)
    service = Service(tmp_path, "--bind-root", str(tmp_path / "allowed"), "--reconcile-every", "3600")
    yield service
    service.kill()


@pytest.fixture
def admin(service: Service) -> Administrator:
    return Administrator(service)


class Writer:
    """A process in a volume that has a file of it open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.pid = process.pid
        self._process = process
        self._is("ready")

    def write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        self._is("done")

    def _is(self, said: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == f"{said}\n"


@contextmanager
def writer(place: Path) -> Iterator[Writer]:
    argv = ["sh", "-c", WRITER]
    with subprocess.Popen(argv, cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Writer(process)
        process.kill()


def busy(service: Service, user: Writer) -> None:
    """The last caller has gone, and that process was told to keep the volume busy."""
    status, answer = service.ask("VolumeDriver.Unmount", {"Name": "v", "ID": "c1"})
    assert status == 500
    assert f"in use by process {user.pid} (sh)" in answer["Err"]
    assert "pyvol detach --force v" in answer["Err"]


@pytest.mark.parametrize(("fs", "size"), FILESYSTEMS)
def test_who_is_in_it_keeps_what_is_open_and_the_rest_goes_on(
    service: Service, admin: Administrator, fs: str, size: str
) -> None:
    service.call("Create", Name="v", Opts={"fs": fs, "size": size})
    place = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    with writer(place) as user:
        busy(service, user)
        assert f"in use by process {user.pid} (sh)" in admin.error("detach", "v")
        assert mounted_below(service.mount_root) == [str(place.parent)]
        assert admin.run("detach", "--force", "v") == "v\n"
        assert mounted_below(service.mount_root) == []
        assert admin.inspect("v")["mounts"] == {}
        user.write("still")
        # Mounted again it is the same filesystem, not a second one on the same file.
        place = Path(service.call("Mount", Name="v", ID="c2")["Mountpoint"])
        assert (place / "file").read_text() == "still\n"
        user.write("more")
        assert (place / "file").read_text() == "still\nmore\n"
        assert len(attached_below(service.state_dir)) == 1
        service.call("Unmount", Name="v", ID="c2")
        user.write("kept")
    until(lambda: attached_below(service.state_dir) == [], "the device to go with the last that used it")
    place = Path(service.call("Mount", Name="v", ID="c3")["Mountpoint"])
    assert (place / "file").read_text() == "still\nmore\nkept\n"
    service.call("Unmount", Name="v", ID="c3")
    service.call("Remove", Name="v")


def test_a_directory_of_the_host(service: Service, admin: Administrator, tmp_path: Path) -> None:
    service.call("Create", Name="v", Opts={"backend": "bind", "source": str(tmp_path / "allowed" / "dir")})
    place = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    with writer(place) as user:
        busy(service, user)
        admin.run("detach", "--force", "v")
        assert mounted_below(service.mount_root) == []
        service.call("Remove", Name="v")
        user.write("kept")
    assert (tmp_path / "allowed" / "dir" / "file").read_text() == "kept\n"


def test_what_a_container_has_is_not_detached(service: Service, admin: Administrator) -> None:
    service.call("Create", Name="v", Opts={"size": "32M"})
    place = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    said = admin.error("detach", "--force", "v")
    assert "cannot detach v: it is mounted for caller c1; end the containers" in said
    (place / "file").write_text("kept")
    service.call("Unmount", Name="v", ID="c1")
    for words in (("v",), ("--force", "v")):
        assert admin.run("detach", *words) == "v\n", "what nobody has is as it should be"
    assert "there is none of that name" in admin.error("detach", "w")


def test_what_was_let_go_once_is_busy_the_next_time(service: Service, admin: Administrator) -> None:
    """Nothing of a --force is left for whoever has the volume later."""
    service.call("Create", Name="v", Opts={"size": "32M"})
    for last in (False, True):
        place = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
        with writer(place) as user:
            busy(service, user)
            admin.run("detach", "--force", "v")
            if last:
                # Its file stays as long as somebody has something of it open.
                assert f"process {user.pid} (sh)" in service.ask("VolumeDriver.Remove", {"Name": "v"})[1]["Err"]
                user.write("more")
    until(lambda: attached_below(service.state_dir) == [], "the device to go with the last that used it")
    service.call("Remove", Name="v")
