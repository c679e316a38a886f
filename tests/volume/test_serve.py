"""The whole plugin: a real process on a real socket, with real devices and mounts."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serving import Cut, UnixConnection, exchange, serve_argv, until
from tests.volume.conftest import attached_below, mounted_below
from tests.volume.serving import Engine, Service

PYVOL = Path(sys.executable).with_name("pyvol")
METHODS = ("Create", "Remove", "Mount", "Unmount", "Path", "Get")


@pytest.fixture
def service(mount_namespace: None, tmp_path: Path) -> Iterator[Service]:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    service = Service(tmp_path, "--bind-root", str(allowed), "--default-size", "32M", "--reconcile-every", "3600")
    yield service
    service.kill()


def is_clean(service: Service) -> None:
    """Assert that nothing is left of any volume."""
    assert attached_below(service.state_dir) == []
    assert mounted_below(service.state_dir) == []
    assert [entry.name for entry in service.mount_root.iterdir()] == [".pyvol"]
    volumes = service.state_dir / "volumes"
    assert not volumes.exists() or [entry.name for entry in volumes.rglob("*")] == [".trash"]


def test_the_life_of_a_volume(service: Service) -> None:
    service.call("Create", Name="v", Opts={"size": "64M"})
    place = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    assert place == Path(service.call("Path", Name="v")["Mountpoint"])
    (place / "file").write_text("kept")
    service.call("Mount", Name="v", ID="c2")
    service.call("Unmount", Name="v", ID="c1")
    assert (place / "file").read_text() == "kept"
    status = service.status("v")
    assert status["mounts"] == {"c2": 1}
    assert 0.8 * (64 << 20) < status["available_bytes"] < (64 << 20) - status["used_bytes"]
    assert 0 < status["allocated_bytes"] < 8 << 20
    code, answer = service.ask("VolumeDriver.Remove", {"Name": "v"})
    assert (code, answer["Err"]) == (500, "cannot remove v: it is mounted; caller c2")
    service.call("Unmount", Name="v", ID="c2")
    assert [volume["Name"] for volume in service.call("List")["Volumes"]] == ["v"]
    service.call("Remove", Name="v")
    code, answer = service.ask("VolumeDriver.Get", {"Name": "v"})
    assert (code, answer["Err"]) == (500, "cannot find the volume v: there is none of that name")
    is_clean(service)


def test_a_bound_directory(service: Service, tmp_path: Path) -> None:
    source = tmp_path / "allowed" / "data"
    source.mkdir()
    service.call("Create", Name="b", Opts={"backend": "bind", "source": str(source)})
    place = Path(service.call("Mount", Name="b", ID="c1")["Mountpoint"])
    (place / "file").write_text("kept")
    service.call("Unmount", Name="b", ID="c1")
    service.call("Remove", Name="b")
    assert (source / "file").read_text() == "kept"
    is_clean(service)
    code, _ = service.ask("VolumeDriver.Create", {"Name": "b", "Opts": {"backend": "bind", "source": "/etc"}})
    assert code == 400
    assert service.call("List")["Volumes"] == []


def test_a_killed_plugin_goes_on_where_it_was_and_writers_do_not_notice(service: Service) -> None:
    service.call("Create", Name="v")
    service.call("Create", Name="w")
    place = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    service.call("Mount", Name="v", ID="c1")
    with (place / "file").open("w") as file:
        file.write("before ")
        file.flush()
        service.kill()
        file.write("while ")
        file.flush()
        service.start()
        file.write("after")
    assert (place / "file").read_text() == "before while after"
    assert service.status("v")["mounts"] == {"c1": 2}
    for _ in range(2):
        service.call("Unmount", Name="v", ID="c1")
    assert mounted_below(service.mount_root) == []
    for name in ("v", "w"):
        service.call("Remove", Name=name)
    is_clean(service)


def test_what_was_undone_while_the_plugin_was_dead_is_done_again(service: Service) -> None:
    service.call("Create", Name="v")
    place = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    (place / "file").write_text("kept")
    service.kill()
    subprocess.run(["umount", place.parent], check=True)
    until(lambda: attached_below(service.state_dir) == [], "the device to go with its mount")
    (service.mount_root / "orphan").mkdir()
    service.start()
    assert (place / "file").read_text() == "kept"
    assert not (service.mount_root / "orphan").exists()


def test_sigterm_takes_nothing_down(service: Service) -> None:
    service.call("Create", Name="v")
    place = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    (place / "file").write_text("kept")
    assert service.stop() == 0
    assert (place / "file").read_text() == "kept"
    service.start()
    assert service.status("v")["mounts"] == {"c1": 1}


def test_sighup_puts_right_what_others_undid(service: Service) -> None:
    service.call("Create", Name="v")
    place = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    subprocess.run(["umount", place.parent], check=True)
    service.process.send_signal(signal.SIGHUP)
    until(place.is_dir, "the volume to be mounted again")


def test_an_engine_that_was_killed_mounts_the_same_id_again(service: Service) -> None:
    engine = Engine(service)
    engine.call("Create", Name="v")
    engine.call("Mount", Name="v", ID="c1")
    engine.kill()
    engine = Engine(service)
    engine.call("Mount", Name="v", ID="c1")
    assert service.status("v")["mounts"] == {"c1": 1}
    engine.call("Unmount", Name="v", ID="c1")
    engine.kill()
    assert mounted_below(service.mount_root) == []


def test_an_engine_that_was_killed_while_its_container_lives(service: Service, tmp_path: Path) -> None:
    engine = Engine(service)
    engine.call("Create", Name="v")
    engine.call("Mount", Name="v", ID="c1")
    [mounted] = mounted_below(service.mount_root)
    (tmp_path / "place").mkdir()
    script = f"mount --bind {mounted}/_data {tmp_path}/place; echo ready; exec sleep 60"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE) as container:
        assert container.stdout is not None
        assert container.stdout.readline() == b"ready\n"
        engine.kill()
        engine = Engine(service)
        engine.call("Mount", Name="v", ID="c1")  # docker cp
        engine.call("Unmount", Name="v", ID="c1")
        assert service.status("v")["mounts"] == {"c1": 1}
        status, answer = service.ask("VolumeDriver.Remove", {"Name": "v"})
        assert status == 500
        assert f"mounted at {tmp_path}/place in the mount namespace" in answer["Err"]
        container.kill()
    engine.call("Unmount", Name="v", ID="c1")
    engine.call("Remove", Name="v")
    engine.kill()
    is_clean(service)


@pytest.mark.parametrize(
    "body",
    [b"", b" \n", b"{", b"[]", b"null", b"1", b"\xff\xfe", b"{}", b'{"Name":1}', b'{"Name":null}', b'{"name":"v"}'],
)
def test_garbage_is_refused(service: Service, body: bytes) -> None:
    for method in METHODS:
        if method == "Get" and not body:
            # An answer would make dockerd forget the volume; without one it asks again.
            with pytest.raises(Cut):
                exchange(service.socket, "POST", "VolumeDriver.Get", body)
            continue
        status, answer = exchange(service.socket, "POST", f"VolumeDriver.{method}", body)
        assert status == 400
        assert answer["Err"].startswith("cannot ")
    assert service.call("List")["Volumes"] == []


def test_values_of_the_wrong_type_are_refused(service: Service) -> None:
    wrong: tuple[object, ...] = ([], "size=1G", {"size": 64}, {"size": None}, {"size": ["1G"]})
    for options in wrong:
        assert service.ask("VolumeDriver.Create", {"Name": "v", "Opts": options})[0] == 400
    assert service.ask("VolumeDriver.Mount", {"Name": "v"})[0] == 400
    assert service.ask("VolumeDriver.Mount", {"Name": "v", "ID": ""})[0] == 400
    assert service.call("List")["Volumes"] == []


def test_what_takes_nothing_takes_an_empty_body(service: Service) -> None:
    assert service.ask("VolumeDriver.List") == (200, {"Volumes": [], "Err": ""})
    assert service.ask("VolumeDriver.Capabilities") == (200, {"Capabilities": {"Scope": "local"}, "Err": ""})


def test_an_unknown_method_is_not_found(service: Service) -> None:
    assert service.ask("VolumeDriver.Explode", {})[0] == 404


def test_connections_that_say_nothing_harm_nobody(service: Service) -> None:
    for _ in range(100):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(service.socket))
    assert service.call("List")["Volumes"] == []


def test_many_volumes_by_many_clients(service: Service) -> None:
    names = [f"v{number}" for number in range(200)]

    def mount(name: str) -> None:
        place = Path(service.call("Mount", Name=name, ID="c1")["Mountpoint"])
        (place / "name").write_text(name)
        service.call("Mount", Name=name, ID="c2")

    def unmount(name: str) -> None:
        service.call("Unmount", Name=name, ID="c1")
        assert (service.mount_root / name / "_data" / "name").read_text() == name
        service.call("Unmount", Name=name, ID="c2")

    with ThreadPoolExecutor(32) as clients:
        list(clients.map(lambda name: service.call("Create", Name=name, Opts={"size": "8M"}), names))
        list(clients.map(mount, names))
        assert len(attached_below(service.state_dir)) == len(names)
        list(clients.map(unmount, names))
        list(clients.map(lambda name: service.call("Remove", Name=name), names))
    is_clean(service)


def test_a_backing_file_that_others_deleted_is_told_and_not_replaced(service: Service) -> None:
    service.call("Create", Name="v")
    place = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    [image] = (service.state_dir / "volumes" / "v").iterdir()
    image.unlink()
    service.process.send_signal(signal.SIGHUP)
    until(lambda: "Only removing the volume gives up" in service.log(), "a reconcile that tells")
    (place / "file").write_text("writers go on")
    assert service.status("v")["health"] == "problem"
    service.call("Unmount", Name="v", ID="c1")
    code, answer = service.ask("VolumeDriver.Mount", {"Name": "v", "ID": "c1"})
    assert code == 500
    assert "the volume's data is not where it was" in answer["Err"]
    assert not image.exists()
    service.call("Remove", Name="v")
    is_clean(service)


def test_a_device_that_others_detach_goes_with_its_last_user_and_comes_again(service: Service) -> None:
    service.call("Create", Name="v")
    place = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    (place / "file").write_text("kept")
    [device] = attached_below(service.state_dir)
    subprocess.run(["losetup", "--detach", device], check=True)
    assert (place / "file").read_text() == "kept"
    subprocess.run(["umount", place.parent], check=True)
    until(lambda: attached_below(service.state_dir) == [], "the device to go with its mount")
    service.process.send_signal(signal.SIGHUP)
    until(lambda: (place / "file").exists(), "the mount to come again")
    assert (place / "file").read_text() == "kept"


def test_data_that_no_record_knows_is_left_alone(service: Service) -> None:
    service.call("Create", Name="v")
    service.kill()
    for file in service.state_dir.glob("pyvol.db*"):
        file.unlink()
    service.start()
    assert service.call("List")["Volumes"] == []
    assert (service.state_dir / "volumes" / "v" / "image.ext4").exists()
    assert "there is data of a volume v that no record knows" in service.log()
    for options in ({}, {"size": "64M"}, {"fs": "xfs", "size": "400M"}):
        code, answer = service.ask("VolumeDriver.Create", {"Name": "v", "Opts": options})
        assert code == 500
        assert f"there is data in {service.state_dir}/volumes/v that no record knows" in answer["Err"]
    assert (service.state_dir / "volumes" / "v" / "image.ext4").exists()


def test_state_that_cannot_be_read_ends_the_start_in_one_line(service: Service) -> None:
    service.stop()
    for file in service.state_dir.glob("pyvol.db*"):
        file.write_bytes(b"garbage" * 1000)
    argv = serve_argv("pyvol", service.socket, service.state_dir)
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 1
    assert ended.stderr.startswith("pyvol: cannot use the state file ")
    assert ended.stderr.count("\n") == 1


def test_a_mount_root_of_others_ends_the_start_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "theirs" / "data").mkdir(parents=True)
    argv = serve_argv("pyvol", tmp_path / "s", tmp_path / "state")
    environment = {**os.environ, "PYVOL_MOUNT_ROOT": str(tmp_path / "theirs")}
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30, env=environment)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"pyvol: cannot use {tmp_path}/theirs as the mount root")
    assert ended.stderr.count("\n") == 1


def test_bind_roots_come_from_the_environment(
    mount_namespace: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PYVOL_BIND_ROOTS", f"{tmp_path}/one:{tmp_path}/two")
    service = Service(tmp_path)
    try:
        for name in ("one", "two"):
            service.call("Create", Name=name, Opts={"backend": "bind", "source": str(tmp_path / name)})
    finally:
        service.kill()


def metric(service: Service, name: str) -> float:
    """What the plugin measures, as of its last check."""
    connection = UnixConnection(service.socket)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    [value] = re.findall(rf"^pyvol_{name} (\S+)$", text, re.MULTILINE)
    return float(value)


def test_more_than_the_disk_is_promised_only_if_the_administrator_says_so_and_is_measured(
    mount_namespace: None, tmp_path: Path
) -> None:
    service = Service(tmp_path, "--overcommit", "never")
    try:
        status, answer = service.ask("VolumeDriver.Create", {"Name": "v", "Opts": {"size": "1T"}})
        assert status == 500
        assert answer["Err"].startswith("cannot give v 1TiB: the disk has ")
        assert metric(service, "volumes_growth_bytes") == 0
    finally:
        service.kill()
    service = Service(tmp_path, "--overcommit", "always")
    try:
        service.call("Create", Name="v", Opts={"size": "1T"})
        service.process.send_signal(signal.SIGHUP)
        until(lambda: "bytes, and the disk has" in service.log(), "a check that tells")
        growth, available = (metric(service, name) for name in ("volumes_growth_bytes", "disk_available_bytes"))
        assert (1 << 40) - service.status("v")["allocated_bytes"] == growth > available > 0
    finally:
        service.kill()


def test_the_command_line_explains_itself() -> None:
    def output(*arguments: str) -> str:
        return subprocess.run([PYVOL, *arguments], capture_output=True, text=True, check=True).stdout

    assert output("--version").startswith("pyvol ")
    assert "PYVOL_BIND_ROOTS" in output("serve", "--help")
    assert "| `size` |" in output("options")
    module = subprocess.run([sys.executable, "-m", "volplugin", "--version"], capture_output=True, check=True)
    assert module.stdout.startswith(b"pyvol ")


@pytest.mark.parametrize("size", ["1K", "much"])
def test_a_default_size_that_cannot_be_is_refused(size: str, tmp_path: Path) -> None:
    argv = [*serve_argv("pyvol", tmp_path / "s", tmp_path / "state"), "--default-size", size]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    assert size in ended.stderr
    assert not (tmp_path / "state").exists()
