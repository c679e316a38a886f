"""Encrypted volumes on real loop devices: what has the key reads them, nothing else does, and the key is nowhere."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serving import until
from tests.volume.administrator import Administrator
from tests.volume.conftest import attached_below, mounted_below
from tests.volume.serving import Service

SECRET = b"nobody shall read that on the disk"
NAME = "told-by-no-directory"


@pytest.fixture
def service(mount_namespace: None, tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path, "--reconcile-every", "3600")
    (service.state_dir / "keys").mkdir()
    yield service
    service.kill()


def key_file(service: Service, name: str = "k", content: bytes | None = None) -> Path:
    path = service.state_dir / "keys" / name
    path.write_bytes(secrets.token_bytes(64) if content is None else content)
    path.chmod(0o600)
    return path


def program(service: Service, script: str, name: str = "get") -> str:
    path = service.state_dir / "keys" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


def create(service: Service, name: str, key: Path) -> None:
    service.call("Create", Name=name, Opts={"size": "32M", "encrypt": "true", "key_file": str(key)})


def mount(service: Service, name: str = "v") -> Path:
    return Path(service.call("Mount", Name=name, ID="c")["Mountpoint"])


def unmount(service: Service, name: str = "v") -> None:
    service.call("Unmount", Name=name, ID="c")


def refusal(service: Service, method: str, **request: object) -> str:
    status, answer = service.ask(f"VolumeDriver.{method}", request)
    assert status in (400, 500), answer
    said: str = answer["Err"]
    return said


def write(place: Path) -> None:
    """The secret is in a file of that name, and on the disk."""
    (place / NAME).write_bytes(SECRET)
    subprocess.run(["sync", "-f", place], check=True)


def reads(place: Path) -> bool:
    return (place / NAME).read_bytes() == SECRET


def is_told_by(image: Path) -> list[str]:
    """Return what of the two can be read in the file."""
    content = image.read_bytes()
    return [text.decode() for text in (SECRET, NAME.encode()) if text in content]


def image_of(service: Service, name: str = "v") -> Path:
    return service.state_dir / "volumes" / name / "image.ext4"


def released(service: Service) -> None:
    assert mounted_below(service.mount_root) == []
    assert attached_below(service.state_dir) == []


def children_of(service: Service) -> str:
    """Return the command lines of all that the plugin runs."""
    group = ["ps", "-o", "args=", "--sid", str(os.getsid(service.process.pid))]
    return subprocess.run(group, capture_output=True, text=True, check=True).stdout


def remembered(service: Service) -> bytes:
    """Return all that the plugin's processes have in their memory."""
    arbiter = service.process.pid
    children = Path(f"/proc/{arbiter}/task/{arbiter}/children").read_text().split()
    found = bytearray()
    for pid in (str(arbiter), *children):
        maps = Path(f"/proc/{pid}/maps").read_text()
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for match in re.finditer(r"^([0-9a-f]+)-([0-9a-f]+) rw", maps, re.MULTILINE):
                first, last = (int(edge, 16) for edge in match.groups())
                found += os.pread(memory.fileno(), last - first, first)
    return bytes(found)


def test_who_has_the_key_reads_it_and_the_disk_tells_nothing(service: Service) -> None:
    create(service, "v", key_file(service))
    place = mount(service)
    assert list(place.iterdir()) == []
    write(place)
    assert is_told_by(image_of(service)) == []
    unmount(service)
    released(service)
    assert reads(mount(service))
    status = service.status("v")
    assert (status["encrypted"], status["encrypt"], status["health"]) == (True, "true", "ok")
    unmount(service)
    # The same without encryption is in plain sight: the test would see it.
    service.call("Create", Name="w", Opts={"size": "32M"})
    write(mount(service, "w"))
    assert is_told_by(image_of(service, "w")) == [SECRET.decode(), NAME]
    assert "encrypted" not in service.status("w")
    unmount(service, "w")


@pytest.mark.parametrize("kind", ["key_file", "key_cmd"])
def test_the_key_is_nowhere(service: Service, admin: Administrator, kind: str) -> None:
    key = secrets.token_bytes(48)
    path = key_file(service, content=key)
    if kind == "key_cmd":
        # Who is asked for it looks at who runs meanwhile.
        seen = service.state_dir / "seen"
        program(service, f"cat /proc/[0-9]*/cmdline >>{seen} 2>/dev/null; exec cat {path}")
    value = {"key_file": str(path), "key_cmd": f"{service.state_dir}/keys/get v"}[kind]
    service.call("Create", Name="v", Opts={"size": "32M", "encrypt": "true", kind: value})
    write(mount(service))
    service.call("List")
    told = admin.run("inspect", "v").encode()
    assert value.encode() in told
    places = {
        "status": json.dumps(service.status("v")).encode() + told,
        "log": service.log().encode(),
        "store": b"".join(file.read_bytes() for file in service.state_dir.glob("pyvol.db*")),
        "memory": remembered(service),
        "volume": image_of(service).read_bytes(),
        "argv": b"".join(file.read_bytes() for file in service.state_dir.glob("seen")),
    }
    for where, content in places.items():
        for spelled in (key, key.hex().encode(), key[:16], key[-16:]):
            assert spelled not in content, where
    assert value.encode() in places["memory"], "which was looked at"
    unmount(service)


def test_another_key_opens_nothing_and_harms_nothing(service: Service, admin: Administrator) -> None:
    path = key_file(service)
    right = path.read_bytes()
    create(service, "v", path)
    write(mount(service))
    unmount(service)
    key_file(service, content=secrets.token_bytes(64))
    said = refusal(service, "Mount", Name="v", ID="c")
    assert said.startswith("cannot decrypt ")
    assert said.endswith("the volume was encrypted with another key")
    released(service)
    assert "another key" in service.status("v")["last_error"]
    moved = key_file(service, "moved", right)
    assert admin.run("set", "v", f"key_file={moved}") == "v\n"
    assert reads(mount(service))
    assert "gets key_file at its next mount" in admin.run("set", "v", f"key_file={path}")
    unmount(service)


def test_without_the_key_all_but_mount_goes_on(service: Service) -> None:
    path = key_file(service)
    create(service, "v", path)
    write(mount(service))
    path.unlink()
    service.kill()
    service.start()
    assert reads(service.mount_root / "v/_data"), "the kernel has the key as long as it is mounted"
    mount(service)
    unmount(service)
    unmount(service)
    said = refusal(service, "Mount", Name="v", ID="c")
    assert said.startswith(f"cannot read the key {path}: No such file or directory (ENOENT); without its key nobody")
    released(service)
    status = service.status("v")
    assert (status["health"], status["encrypted"]) == ("problem", True)
    assert str(path) in status["problem"]
    assert status["allocated_bytes"] > 0
    assert [volume["Name"] for volume in service.call("List")["Volumes"]] == ["v"]
    service.call("Remove", Name="v")
    assert not image_of(service).exists()


def test_what_is_no_key_is_refused_before_anything_is_made(service: Service, tmp_path: Path) -> None:
    short = key_file(service, content=bytes(31))
    for source, said in (
        ({"key_file": str(short)}, "that has 31 bytes; a key is 32 to 64 random bytes"),
        ({"key_file": f"{short}.gone"}, "No such file"),
        ({"key_file": "/etc/shadow"}, f"it is not below a directory of keys ({service.state_dir}/keys)"),
        ({"key_cmd": "/bin/cat /etc/shadow"}, "it is not below a directory of keys"),
        ({"key_cmd": program(service, "echo the vault is locked >&2; exit 3")}, "the vault is locked"),
    ):
        assert said in refusal(service, "Create", Name="v", Opts={"size": "32M", "encrypt": "true", **source})
    assert service.call("List")["Volumes"] == []
    assert not image_of(service).parent.exists()


def test_a_mount_that_takes_long_keeps_no_other_volume_waiting(service: Service) -> None:
    """Not even while a check waits for both."""
    path = key_file(service)
    slow = program(service, f"test -e {service.state_dir}/keys/fast || sleep 7; exec cat {path}")
    (service.state_dir / "keys/fast").touch()
    service.call("Create", Name="v", Opts={"size": "32M", "encrypt": "true", "key_cmd": slow})
    service.call("Create", Name="w", Opts={"size": "32M"})
    (service.state_dir / "keys/fast").unlink()
    with ThreadPoolExecutor(1) as pool:
        mounting = pool.submit(mount, service)
        until(lambda: "sleep" in children_of(service), "a slow key")
        service.process.send_signal(signal.SIGHUP)
        mount(service, "w")
        unmount(service, "w")
        assert not mounting.done(), "it was in nobody's way"
        mounting.result()
    unmount(service)


def test_a_key_that_was_taken_from_the_kernel_is_back_when_all_is_checked(service: Service) -> None:
    create(service, "v", key_file(service))
    place = mount(service)
    write(place)
    remove = """
import fcntl, os, struct, sys
place = os.open(sys.argv[1], os.O_RDONLY)
policy = bytearray(struct.pack("=Q", 24).ljust(32))
fcntl.ioctl(place, 0xC0096616, policy)
fcntl.ioctl(place, 0xC0406618, bytearray(struct.pack("=I4x16s", 2, policy[16:32]).ljust(64, b"\\0")))
"""
    subprocess.run(["python3", "-c", remove, place], check=True)
    with pytest.raises(OSError, match="Required key not available"):
        (place / "new").touch()
    service.kill()
    service.start()
    assert reads(place)
    (place / "new").touch()
    unmount(service)


def test_files_that_are_not_encrypted_are_not_hidden_behind_a_key(service: Service, tmp_path: Path) -> None:
    create(service, "v", key_file(service))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["mount", "-o", "loop", image_of(service), elsewhere], check=True)
    (elsewhere / "_data/file").write_text("plain")
    subprocess.run(["umount", elsewhere], check=True)
    assert "there are files in it that are not encrypted" in refusal(service, "Mount", Name="v", ID="c")
    released(service)


def test_snapshots_clones_and_growth_have_the_same_key(service: Service, admin: Administrator) -> None:
    create(service, "v", key_file(service))
    place = mount(service)
    write(place)
    admin.run("snapshot", "create", "v@s")
    (place / NAME).unlink()
    unmount(service)
    service.call("Create", Name="w", Opts={"from": "v@s"})
    assert reads(mount(service, "w"))
    assert service.status("w")["encrypted"] is True
    admin.run("snapshot", "restore", "v@s")
    admin.run("resize", "v", "64M")
    assert reads(mount(service))
    assert os.statvfs(place).f_blocks * os.statvfs(place).f_frsize > 40 << 20
    for image in service.state_dir.glob("volumes/**/*.ext4"):
        assert is_told_by(image) == []
    unmount(service)
    unmount(service, "w")


def test_an_archive_is_as_encrypted_as_its_volume(service: Service, admin: Administrator, tmp_path: Path) -> None:
    path = key_file(service)
    create(service, "v", path)
    write(mount(service))
    archive = tmp_path / "archive"
    admin.run("backup", "v", "--to", str(archive))
    assert is_told_by(archive) == []
    assert "give -o key_file=PATH" in admin.error("restore", str(archive), "--as", "w"), (
        "no path is an archive's to say"
    )
    assert "encrypt with an archive" in admin.error("restore", str(archive), "--as", "w", "-o", "encrypt=false")
    nowhere = f"key_file={path}.gone"
    assert "No such file" in admin.error("restore", str(archive), "--as", "w", "-o", nowhere)
    other = key_file(service, "other")
    admin.run("restore", str(archive), "--as", "w", "-o", f"key_file={other}")
    assert "another key" in refusal(service, "Mount", Name="w", ID="c")
    admin.run("set", "w", f"key_file={path}")
    assert reads(mount(service, "w"))
    unmount(service, "w")
    unmount(service)


def test_a_tar_of_it_is_plain_and_one_is_encrypted_when_it_comes_in(
    service: Service, admin: Administrator, tmp_path: Path
) -> None:
    path = key_file(service)
    create(service, "v", path)
    write(mount(service))
    tar = tmp_path / "tar"
    admin.run("export", "v", "--to", str(tar))
    assert is_told_by(tar) == [SECRET.decode(), NAME]
    admin.run("import", "w", "--from", str(tar), "-o", "encrypt=true", "-o", f"key_file={path}", "-o", "size=32M")
    assert is_told_by(image_of(service, "w")) == []
    assert reads(mount(service, "w"))
    unmount(service, "w")
    unmount(service)
    content = path.read_bytes()
    path.unlink()
    assert "without its key" in admin.error("export", "v", "--to", str(tmp_path / "tar2"))
    key_file(service, content=content[::-1])
    assert "another key" in admin.error("export", "v", "--to", str(tmp_path / "tar2"))
    assert not (tmp_path / "tar2").exists()
    assert service.call("List")["Volumes"][0]["Status"].get("snapshots") is None
    assert attached_below(service.state_dir) == []
