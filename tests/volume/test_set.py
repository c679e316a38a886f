"""`pyvol set`, labels and what is kept for root, on the real thing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.volume.administrator import Administrator
from tests.volume.serving import Service


def reserved(place: Path) -> float:
    """Return the percent of the filesystem that only root can fill."""
    visible = os.statvfs(place)
    # Two percent the kernel always keeps for its own bookkeeping.
    return 100 * (visible.f_bfree - visible.f_bavail) / visible.f_blocks - 2


def test_what_is_kept_for_root(service: Service, admin: Administrator) -> None:
    service.call("Create", Name="v", Opts={"size": "64M", "reserve": "10"})
    place = Path(service.call("Mount", Name="v", ID="c")["Mountpoint"])
    assert reserved(place) == pytest.approx(10, abs=0.5)
    assert admin.run("set", "v", "reserve=2") == "v\n"
    assert reserved(place) == pytest.approx(2, abs=0.5), "at once, also while it is mounted"
    service.call("Unmount", Name="v", ID="c")
    service.call("Mount", Name="v", ID="c")
    assert reserved(place) == pytest.approx(2, abs=0.5)
    service.call("Unmount", Name="v", ID="c")
    admin.run("set", "v", "reserve=")
    service.call("Create", Name="w", Opts={"from": "v", "reserve": "5"})
    for name, percent in (("v", 0), ("w", 5)):
        place = Path(service.call("Mount", Name=name, ID="c")["Mountpoint"])
        assert reserved(place) == pytest.approx(percent, abs=0.5)
    assert "only ext4 keeps something for root" in refused(service, Opts={"fs": "xfs", "size": "320M", "reserve": "1"})


def refused(service: Service, **request: object) -> str:
    status, answer = service.ask("VolumeDriver.Create", {"Name": "x", **request})
    assert status == 400
    return str(answer["Err"])


def test_labels_and_options_of_mounts(service: Service, admin: Administrator) -> None:
    service.call("Create", Name="v", Opts={"size": "64M", "label.owner": "ann"})
    assert service.status("v")["label.owner"] == "ann"
    service.call("Mount", Name="v", ID="c")
    said = admin.run("set", "v", "label.owner=", "label.tier=gold", "ro=true", "mount_opts=noatime")
    assert said == "v: it is mounted, and gets mount_opts, ro at its next mount\n"
    service.kill()
    service.start()
    status = service.status("v")
    assert (status["label.tier"], status["ro"], status["mount_opts"]) == ("gold", "true", "noatime")
    assert "label.owner" not in status
    service.call("Unmount", Name="v", ID="c")
    place = Path(service.call("Mount", Name="v", ID="c")["Mountpoint"])
    with pytest.raises(OSError, match="Read-only"):
        (place / "file").touch()
    service.call("Unmount", Name="v", ID="c")
    assert admin.run("set", "v", "ro=", "sparse=false") == "v\n"
    assert service.status("v")["allocated_bytes"] >= 64 << 20
    service.call("Create", Name="v", Opts={"size": "64M", "label.tier": "gold"})
    status_code, answer = service.ask("VolumeDriver.Create", {"Name": "v", "Opts": {"label.tier": "iron"}})
    assert (status_code, "label.tier=gold, not iron" in answer["Err"]) == (500, True)


def test_what_cannot_be_set(service: Service, admin: Administrator) -> None:
    service.call("Create", Name="v", Opts={"size": "64M"})
    before = admin.inspect("v")
    assert "cannot change -o size: it is as it was made; pyvol resize changes it" in admin.error("set", "v", "size=1G")
    assert "there is no such option; the nearest is" in admin.error("set", "v", "colour=red")
    assert "it takes a number from 0 to 50" in admin.error("set", "v", "reserve=99", "label.a=b")
    assert "cannot find the volume w" in admin.error("set", "w", "ro=true")
    assert admin.done("set", "v", "ro").returncode == 2
    after = admin.inspect("v")
    assert after.pop("last_error")
    assert after == before
