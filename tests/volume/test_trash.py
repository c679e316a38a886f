"""The trash: volumes that were removed and are had again, for real, and death at every step on the fake kernel."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from pluginkit.errors import Conflict, Exhausted, NotFound
from tests.serving import until
from tests.volume.administrator import Administrator
from tests.volume.machine import Machine
from tests.volume.serving import Service
from volplugin.upkeep.wire import TrashRequest, UndeleteRequest


@pytest.fixture
def service(mount_namespace: None, tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "allowed").mkdir()
    service = Service(tmp_path, "--bind-root", str(tmp_path / "allowed"), "--reconcile-every", "3600", "--trash", "7d")
    yield service
    service.kill()


def removed(service: Service, name: str, content: str, **options: str) -> None:
    """There was such a volume, with that in it."""
    service.call("Create", Name=name, Opts={"size": "64M", **options})
    place = Path(service.call("Mount", Name=name, ID="c")["Mountpoint"])
    (place / "file").write_text(content)
    service.call("Unmount", Name=name, ID="c")
    service.call("Remove", Name=name)


def content(service: Service, name: str) -> str:
    found = (Path(service.call("Mount", Name=name, ID="c")["Mountpoint"]) / "file").read_text()
    service.call("Unmount", Name=name, ID="c")
    return found


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_what_was_removed_can_be_had_again(service: Service, admin: Administrator, fs: str) -> None:
    options = {"fs": fs, "size": "320M", "mount_opts": "noatime", "label.owner": "ann"}
    removed(service, "v", "first", **options)
    assert service.call("List")["Volumes"] == []
    removed(service, "v", "second", **options)
    service.call("Create", Name="v", Opts={"size": "64M"})
    lines = admin.run("trash", "ls").splitlines()[1:]
    assert [line.split("~")[0] for line in lines] == ["v", "v"]
    assert "there is a volume v; give another name with --as" in admin.error("undelete", "v")
    assert admin.run("undelete", "v", "--as", "w") == "w\n"
    assert content(service, "w") == "second"
    [first] = [line.split()[0] for line in admin.run("trash", "ls").splitlines()[1:]]
    service.call("Remove", Name="v")
    service.kill()
    service.start()
    assert admin.run("undelete", first) == "v\n"
    assert content(service, "v") == "first"
    status = service.status("v")
    assert (status["label.owner"], status["mount_opts"], status["health"]) == ("ann", "noatime", "ok")
    service.call("Create", Name="v", Opts=options)


def test_what_is_in_the_trash_counts_and_can_be_deleted(service: Service, admin: Administrator, tmp_path: Path) -> None:
    removed(service, "v", "x" * (5 << 20))
    removed(service, "w", "x")
    service.call("Create", Name="b", Opts={"backend": "bind", "source": str(tmp_path / "allowed")})
    service.call("Remove", Name="b")
    df = json.loads(admin.run("df", "--json"))
    assert (df["volumes"], df["growth_bytes"]) == (0, 0)
    assert df["trash_bytes"] > 5 << 20
    [v, w] = [each["ID"] for each in json.loads(admin.run("trash", "ls", "--json"))]
    assert admin.run("trash", "empty", v, "--yes") == f"deleted {v}\n"
    assert f"what is in it: {w}" in admin.error("undelete", "v")
    assert "cannot use 'a/b' as a volume name" in admin.error("undelete", "w", "--as", "a/b")
    assert admin.done("trash", "empty").returncode == 1, "nobody said yes"
    assert admin.run("trash", "empty", "--yes") == f"deleted {w}\n"
    assert json.loads(admin.run("df", "--json"))["trash_bytes"] == 0
    assert [path for path in (service.state_dir / "volumes").rglob("*") if path.is_file()] == []
    assert "what is in it: nothing" in admin.error("undelete", "w")


def test_it_goes_when_its_time_has_come(service: Service, admin: Administrator, tmp_path: Path) -> None:
    removed(service, "v", "x")
    service.stop()
    short = Service(tmp_path, "--reconcile-every", "3600", "--trash", "1s")
    removed(short, "w", "x")

    def left() -> list[str]:
        short.process.send_signal(signal.SIGHUP)
        return [line.split("~")[0] for line in admin.run("trash", "ls").splitlines()[1:]]

    until(lambda: left() == ["v"], "the end of w")
    assert [path.name for path in (short.state_dir / "volumes" / ".trashed").iterdir()] == ["v"]
    short.kill()


def remove(machine: Machine) -> None:
    machine.remove("v")


def undelete(machine: Machine) -> None:
    machine.upkeep.undelete(UndeleteRequest("v"))


def undelete_as(machine: Machine) -> None:
    machine.upkeep.undelete(UndeleteRequest("v", "w"))


def drop(machine: Machine) -> None:
    machine.upkeep.drop(TrashRequest("v"))


def create(machine: Machine) -> None:
    machine.create("v", size="64M")


@pytest.mark.parametrize(
    ("before", "verb"), [((), remove), ((remove,), undelete), ((remove,), undelete_as), ((remove,), drop)]
)
def test_death_at_every_step(
    machine: Machine, before: tuple[Callable[[Machine], None], ...], verb: Callable[[Machine], None]
) -> None:
    machine.trash = timedelta(days=1)
    machine.restart()
    for _ in machine.deaths(verb, create, *before, least=3):
        kept = len(machine.upkeep.list_trash().Trashed)
        assert len(machine.names()) + kept == 1 or (verb is drop and kept == 0), "it is there exactly once"
        clear(machine)


def clear(machine: Machine) -> None:
    for name in machine.names():
        machine.remove(name)
    for each in machine.upkeep.list_trash().Trashed:
        machine.upkeep.drop(TrashRequest(each.ID))
    assert machine.kernel.objects == {}


def test_what_the_trash_refuses(machine: Machine) -> None:
    machine.trash = timedelta(days=1)
    machine.restart()
    machine.create("v", size="64M")
    machine.mount("v", "c")
    with pytest.raises(Conflict):
        remove(machine)
    assert machine.upkeep.list_trash().Trashed == ()
    machine.unmount("v", "c")
    remove(machine)
    machine.disk_bytes = 1 << 20
    with pytest.raises(Exhausted):
        undelete(machine)
    machine.is_settled()
    assert machine.names() == []
    machine.disk_bytes = 1 << 50
    undelete(machine)
    with pytest.raises(NotFound):
        undelete(machine)
    machine.is_settled()
    machine.trash = timedelta()
    machine.restart()
    remove(machine)
    assert machine.upkeep.list_trash().Trashed == ()
