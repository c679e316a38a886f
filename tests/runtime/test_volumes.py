"""Volumes of a real pyvol: created, mounted, found again, never lost."""

import pytest

from runtime.errors import BadParameter, Conflict, Failed, NotFound
from runtime.filters import Filters
from runtime.plugins.registry import Plugins
from runtime.volumes import Volumes


@pytest.fixture
def volumes(state, plugins, pyvol):
    return Volumes(state, plugins)


SMALL = {"DriverOpts": {"size": "32M"}}


def mounts(volumes, name):
    return volumes.inspect(name)["Status"]["mounts"]


def test_the_life_of_a_volume(volumes):
    created = volumes.create({"Name": "v", "Labels": {"a": "b"}, **SMALL}, users=["c1"])
    assert (created["Name"], created["Driver"], created["Labels"]) == ("v", "pyvol", {"a": "b"})
    assert created["CreatedAt"].startswith("20")
    place = volumes.mount("v", "c1")
    (place / "file").write_text("kept")
    assert volumes.mount("v", "c1") == place
    assert list(mounts(volumes, "v").values()) == [2]
    volumes.unmount("v", "c1")
    volumes.unmount("v", "c1")
    volumes.unmount("v", "c1")
    assert mounts(volumes, "v") == {}
    with pytest.raises(Conflict, match=r"in use - \[c1\]"):
        volumes.remove("v")
    volumes.release("c1")
    assert (volumes.mount("v", "c2") / "file").read_text() == "kept"
    with pytest.raises(Failed, match=r"cannot remove volume v: VolumeDriver\.Remove: cannot remove v: it is mounted"):
        volumes.remove("v")
    volumes.unmount("v", "c2")
    volumes.remove("v")
    with pytest.raises(NotFound, match="no such volume"):
        volumes.inspect("v")
    with pytest.raises(NotFound):
        volumes.remove("v")
    volumes.remove("v", force=True)


def test_a_volume_without_a_name_goes_with_its_container(volumes):
    name = volumes.create(SMALL, users=["c1"])["Name"]
    volumes.create({"Name": "named", **SMALL}, users=["c1"])
    assert len(name) == 64
    volumes.release("c1", remove_anonymous=True)
    views, warnings = volumes.list(Filters())
    assert ([view["Name"] for view in views], warnings) == (["named"], [])
    volumes.remove("named")


def test_one_that_exists_is_not_created_again(volumes):
    volumes.create({"Name": "v", "Labels": {"first": ""}, **SMALL})
    for options in ({}, SMALL["DriverOpts"]):
        again = volumes.create({"Name": "v", "Labels": {"second": ""}, "DriverOpts": options})
        assert (again["Labels"], again["Options"]) == ({"first": ""}, {"size": "32M"})
    with pytest.raises(Failed, match=r"cannot create volume v: VolumeDriver\.Create: .*size"):
        volumes.create({"Name": "v", "DriverOpts": {"size": "64M"}})
    volumes.remove("v")


def test_nonsense_is_refused_and_nothing_is_left(volumes):
    for name in ("../v", "a b", "x" * 300):
        with pytest.raises(BadParameter):
            volumes.create({"Name": name})
    with pytest.raises(Failed, match=r"cannot create volume v: VolumeDriver\.Create: "):
        volumes.create({"Name": "v", "DriverOpts": {"size": "nonsense"}})
    with pytest.raises(BadParameter, match="invalid filter"):
        volumes.list(Filters({"colour": ("red",)}))
    assert volumes.list(Filters()) == ([], [])


def test_what_a_dead_daemon_left_mounted_is_unmounted(volumes, state, plugins):
    volumes.create({"Name": "v", **SMALL})
    volumes.mount("v", "dead")
    volumes.mount("v", "alive")
    after = Volumes(state, plugins)
    assert after.recover(["alive"]) == []
    assert len(mounts(after, "v")) == 1
    after.unmount("v", "alive")
    assert mounts(after, "v") == {}
    after.remove("v")


def test_a_driver_that_is_down_loses_nothing(volumes, pyvol, state, sockets):
    volumes.create({"Name": "v", **SMALL})
    pyvol.kill()
    pyvol.socket.unlink(missing_ok=True)
    hasty = Volumes(state, Plugins(state, sockets, (), lambda seconds: None))
    views, warnings = hasty.list(Filters())
    assert [view["Name"] for view in views] == ["v"]
    assert "not found" in warnings[0]
    pyvol.start()
    hasty.remove("v")


def test_filters(volumes):
    volumes.create({"Name": "one", "Labels": {"a": "1"}, **SMALL}, users=["c"])
    volumes.create({"Name": "two", "Labels": {"a": "2"}, **SMALL})

    def names(**wanted):
        return [view["Name"] for view in volumes.list(Filters({key: (value,) for key, value in wanted.items()}))[0]]

    assert names(name="on") == names(label="a=1") == names(dangling="false") == ["one"]
    assert names(dangling="true") == ["two"]
    assert names(driver="other") == []
    volumes.release("c")
    volumes.remove("one")
    volumes.remove("two")
