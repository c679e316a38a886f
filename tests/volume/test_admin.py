"""The administrator's socket and the commands that look: a real process, real devices and mounts."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import exchange
from tests.volume.administrator import Administrator
from tests.volume.conftest import mounted_below
from tests.volume.serving import Service


@pytest.fixture
def service(mount_namespace: None, tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "allowed").mkdir()
    service = Service(
        tmp_path, "--bind-root", str(tmp_path / "allowed"), "--default-size", "32M", "--reconcile-every", "3600"
    )
    yield service
    service.kill()


def test_the_socket_is_roots_alone_and_not_the_engines(service: Service) -> None:
    path = service.state_dir / "admin.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert service.ask("v1/Volumes.Inspect", {"Names": []})[0] == 404


def test_an_unknown_version_is_told_from_an_unknown_volume(service: Service, admin: Administrator) -> None:
    assert exchange(service.state_dir / "admin.sock", "POST", "v2/Volumes.Inspect", b"{}")[0] == 404
    assert admin.error("inspect", "v") == "pyvol: cannot find the volume v: there is none of that name"
    assert "cannot use '../v' as a volume name" in admin.error("inspect", "../v")


def test_ls_and_inspect(service: Service, admin: Administrator, tmp_path: Path) -> None:
    assert admin.run("ls").split() == ["VOLUME", "BACKEND", "FS", "SIZE", "USED", "ON", "DISK", "MOUNTS", "HEALTH"]
    service.call("Create", Name="v", Opts={"size": "64M"})
    service.call("Create", Name="b", Opts={"backend": "bind", "source": str(tmp_path / "allowed")})
    service.call("Mount", Name="v", ID="c1")
    _, bound, loop = admin.run("ls").splitlines()
    assert bound.split() == ["b", "bind", "-", "-", "-", "-", "0", "ok"]
    assert loop.split()[:4] == ["v", "loop", "ext4", "64.0MiB"]
    assert loop.split()[-2:] == ["1", "ok"]
    status = admin.inspect("v")
    assert status == service.status("v"), "docker volume inspect says the same"
    assert status["size_bytes"] == 64 << 20
    assert status["mounts"] == {"c1": 1}
    assert status["health"] == "ok"
    assert {"used_bytes", "available_bytes", "inodes", "inodes_available", "allocated_bytes"} <= status.keys()
    assert [volume["Name"] for volume in json.loads(admin.run("ls", "--json"))] == ["b", "v"]


def test_df_adds_up(service: Service, admin: Administrator) -> None:
    for name in ("v", "w"):
        service.call("Create", Name=name, Opts={"size": "64M"})
    told = json.loads(admin.run("df", "--json"))
    assert told["volumes"] == 2
    assert told["size_bytes"] == 128 << 20
    assert told["growth_bytes"] == told["size_bytes"] - told["allocated_bytes"]
    assert "may still grow by   12" in admin.run("df")


def test_the_last_error_of_a_volume_is_told(service: Service, admin: Administrator) -> None:
    service.call("Create", Name="v")
    [image] = (service.state_dir / "volumes" / "v").iterdir()
    image.rename(image.with_name("away"))
    assert service.ask("VolumeDriver.Mount", {"Name": "v", "ID": "c"})[0] == 500
    status = admin.inspect("v")
    assert status["health"] == "problem"
    assert "No such file" in status["problem"]
    assert "No such file" in status["last_error"]
    assert "No such file" in admin.run("ls")
    image.with_name("away").rename(image)
    assert admin.inspect("v")["health"] == "ok"
    service.call("Remove", Name="v")
    service.call("Create", Name="v")
    assert "last_error" not in admin.inspect("v")


def test_a_protected_volume_stays(service: Service, admin: Administrator, tmp_path: Path) -> None:
    service.call("Create", Name="v", Opts={"size": "32M"})
    service.call("Create", Name="b", Opts={"backend": "bind", "source": str(tmp_path / "allowed")})
    admin.run("snapshot", "create", "v@s")
    for name in ("v", "b"):
        assert admin.run("protect", name) == f"{name}\n"
    assert "it is protected; first: pyvol protect --off v" in admin.error("snapshot", "restore", "v@s")
    admin.run("snapshot", "rm", "v@s")
    service.kill()
    service.start()
    for name in ("v", "b"):
        code, answer = service.ask("VolumeDriver.Remove", {"Name": name})
        assert (code, answer["Err"]) == (
            500,
            f"cannot remove {name}: it is protected; first: pyvol protect --off {name}",
        )
        assert service.status(name)["protected"] is True
        admin.run("protect", "--off", name)
        service.call("Remove", Name=name)
    assert "cannot find the volume v" in admin.error("protect", "v")


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
@pytest.mark.parametrize("mounted", [True, False], ids=["mounted", "not mounted"])
def test_trim_gives_the_space_of_deleted_files_back(
    service: Service, admin: Administrator, fs: str, mounted: bool
) -> None:
    service.call("Create", Name="v", Opts={"size": "320M", "fs": fs})
    place = Path(service.call("Mount", Name="v", ID="c")["Mountpoint"])
    (place / "file").write_bytes(os.urandom(50 << 20))
    (place / "kept").write_text("kept")
    os.sync()
    (place / "file").unlink()
    # Of a filesystem that is mounted: what was deleted is on the disk only after this.
    os.sync()
    if not mounted:
        service.call("Unmount", Name="v", ID="c")
    before = service.status("v")["allocated_bytes"]
    assert admin.run("trim", "v").endswith("MiB came free\n")
    status = service.status("v")
    assert status["allocated_bytes"] < before - (40 << 20)
    assert status["mounts"] == ({"c": 1} if mounted else {})
    assert len(mounted_below(service.mount_root)) == mounted
    assert (Path(service.call("Mount", Name="v", ID="d")["Mountpoint"]) / "kept").read_text() == "kept"


def test_what_cannot_be_trimmed(service: Service, admin: Administrator) -> None:
    service.call("Create", Name="v", Opts={"sparse": "false"})
    service.call("Create", Name="r", Opts={"ro": "true"})
    assert "sparse=false, so it stays allocated" in admin.error("trim", "v")
    assert "ro=true" in admin.error("trim", "r")
    assert "cannot find the volume w" in admin.error("trim", "w")


def test_prune_without_an_engine_says_so(service: Service, admin: Administrator, tmp_path: Path) -> None:
    assert "is it running, and is --engine right?" in admin.error("prune", "--engine", str(tmp_path / "none.sock"))


def test_without_a_plugin_the_commands_say_so(service: Service, admin: Administrator) -> None:
    service.kill()
    assert "cannot reach pyvol at" in admin.error("ls")
    service.start()
    assert admin.run("ls")
    admin.state_dir = Path("/nowhere")
    assert "is pyvol running, are you root, and is --state-dir right?" in admin.error("ls")


def test_what_a_client_sends_cannot_end_the_plugin(service: Service, admin: Administrator) -> None:
    for body in (b"", b"{", b'{"Names": 7}'):
        assert exchange(service.state_dir / "admin.sock", "POST", "v1/Volumes.Inspect", body)[0] == 400
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(service.state_dir / "admin.sock"))
        assert admin.run("ls")
