"""`pyvol events` of a real process with real volumes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import exchange
from tests.volume.administrator import PYVOL, Administrator
from tests.volume.serving import Service


@pytest.fixture
def service(mount_namespace: None, tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path, "--default-size", "32M", "--reconcile-every", "3600", "--trash", "7d")
    yield service
    service.kill()


def test_the_life_of_a_volume(service: Service) -> None:
    admin = Administrator(service)
    service.call("Create", Name="v")
    service.call("Mount", Name="v", ID="c1")
    admin.run("snapshot", "create", "v@s")
    admin.run("resize", "v", "64M")
    service.call("Unmount", Name="v", ID="c1")
    admin.run("snapshot", "restore", "v@s")
    admin.run("snapshot", "rm", "v@s")
    refused = admin.error("resize", "nobody", "64M").removeprefix("pyvol: ")
    service.call("Remove", Name="v")
    told = [json.loads(line) for line in admin.run("events", "--no-follow", "--json").splitlines()]
    [trashed] = json.loads(admin.run("trash", "ls", "--json"))
    assert [(each["Kind"], each["ID"], each["Of"], each["Text"]) for each in told] == [
        ("volume-created", "v", "", ""),
        ("volume-mounted", "v", "", "for c1"),
        ("snapshot-created", "v@s", "v", ""),
        ("volume-resized", "v", "", "to 64MiB"),
        ("volume-unmounted", "v", "", "for c1"),
        ("volume-restored", "v", "", "s"),
        ("snapshot-removed", "v@s", "v", ""),
        ("failed", "Volumes.Resize", "", refused),
        ("volume-removed", "v", "", f"in the trash as {trashed['ID']}"),
    ]
    assert [each["Number"] for each in told] == list(range(1, len(told) + 1))
    assert admin.run("events", "--no-follow").splitlines()[1].split()[2:] == ["volume-mounted", "v", "for", "c1"]


def test_the_description_of_the_socket_is_served(service: Service) -> None:
    status, answer = exchange(service.state_dir / "admin.sock", "GET", "v1/openapi.json", b"")
    assert (status, answer) == (200, json.loads(subprocess.check_output([PYVOL, "api"])))
