"""A backing file that others delete or replace while a volume is in use: it is said, and no data is lost or mixed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import until
from tests.volume.conftest import attached_below, mounted_below
from tests.volume.serving import Service


@pytest.fixture
def service(mount_namespace: None, tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path, "--default-size", "32M", "--reconcile-every", "3600")
    yield service
    service.kill()


def is_clean(service: Service) -> None:
    """Assert that no device, no mount and no volume is left."""
    assert attached_below(service.state_dir) == []
    assert mounted_below(service.state_dir) == []
    assert service.call("List")["Volumes"] == []


def test_a_file_that_is_gone_while_two_come_keeps_neither_of_them(service: Service) -> None:
    service.call("Create", Name="v")
    place = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    [image] = (service.state_dir / "volumes" / "v").iterdir()
    image.unlink()
    code, answer = service.ask("VolumeDriver.Mount", {"Name": "v", "ID": "c2"})
    assert (code, "the volume's data is not where it was" in answer["Err"]) == (500, True)
    (place / "file").write_text("writers go on")
    service.call("Unmount", Name="v", ID="c1")
    service.call("Remove", Name="v")
    is_clean(service)


@pytest.mark.parametrize("how", ["moved away", "overwritten"])
def test_a_file_that_was_replaced_while_it_is_in_use_is_told_and_nobody_gets_the_other(
    service: Service, how: str
) -> None:
    for name in ("v", "w"):
        service.call("Create", Name=name)
    place = Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"])
    image, other = (service.state_dir / "volumes" / name / "image.ext4" for name in ("v", "w"))
    copy = Path(shutil.copy(other, other.with_name("copy")))
    if how == "moved away":
        image.rename(service.state_dir / "away")
    copy.rename(image)
    assert "deleted or replaced" in service.status("v")["problem"]
    assert service.status("w")["health"] == "ok"
    code, answer = service.ask("VolumeDriver.Mount", {"Name": "v", "ID": "c2"})
    assert (code, "its file was deleted or replaced while it is in use" in answer["Err"]) == (500, True)
    (place / "file").write_text("writers go on")
    assert (place / "file").read_text() == "writers go on"
    service.call("Unmount", Name="v", ID="c1")
    until(lambda: attached_below(service.state_dir) == [], "both devices to go")
    assert service.status("v")["health"] == "ok"
    if how == "moved away":
        (service.state_dir / "away").rename(image)
        assert (Path(service.call("Mount", Name="v", ID="c1")["Mountpoint"]) / "file").read_text() == "writers go on"
        service.call("Unmount", Name="v", ID="c1")
    for name in ("v", "w"):
        service.call("Remove", Name=name)
    is_clean(service)
