"""What the engine says of volumes, and lets be done to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

from pluginkit.conform.case import expect
from volplugin.conform.case import Area
from volplugin.conform.stage import TARGET, Stage, status_of

case = Area("engine")
_API = "Docker Engine API"
_PLUGIN = "docs.docker.com, plugins_volume"
# A host's clock and an engine's are the same one.
_RECENT = timedelta(minutes=2)


@case("create-inspect", f"{_API}, VolumeCreate, VolumeInspect")
def create_inspect(stage: Stage) -> None:
    """What was created is inspected with its name, driver and scope, and with the time at which that was."""
    stage.create("a")
    told = stage.inspect("a")
    expect(told["Name"] == stage.full("a"), f"it is called {told['Name']}")
    expect(told["Driver"].partition(":")[0] == stage.driver.partition(":")[0], f"its driver is {told['Driver']}")
    expect(told["Scope"] in ("local", "global"), f"its scope is {told['Scope']}")
    created = datetime.fromisoformat(told.get("CreatedAt") or "0001-01-01T00:00:00Z")
    expect(abs(datetime.now(UTC) - created) < _RECENT, f"it was created at {told.get('CreatedAt', 'no time')}")


@case("create-again", f"{_PLUGIN}: Create; {_API}, VolumeCreate")
def create_again(stage: Stage) -> None:
    """What there is may be created again: it is the same volume, with what is in it."""
    stage.create("a")
    first = stage.inspect("a").get("CreatedAt")
    (stage.mounted("c", "a") / "kept").write_text("kept")
    stage.create("a")
    again = stage.inspect("a").get("CreatedAt")
    expect(again == first, f"it was created at {first}, and then at {again}")
    expect((stage.seen_by("c") / "kept").read_text() == "kept", "a file is not what it was")


@case("list-all", f"{_PLUGIN}: List")
def list_all(stage: Stage) -> None:
    """Each volume is listed, once, until it is removed."""
    before = stage.listed()
    names = [f"l{number}" for number in range(5)]
    for name in names:
        stage.create(name)
    expect(stage.listed() == sorted([*before, *names]), f"listed are {stage.listed()}")
    stage.remove("l3")
    names.remove("l3")
    expect(stage.listed() == sorted([*before, *names]), f"after one was removed there are {stage.listed()}")


@case("unknown", f"{_API}, VolumeInspect, VolumeDelete: 404")
def unknown(stage: Stage) -> None:
    """A volume that there is not is neither inspected nor removed: 404."""
    told = status_of(lambda: stage.inspect("nobody")), status_of(lambda: stage.remove("nobody"))
    expect(told == (HTTPStatus.NOT_FOUND,) * 2, f"inspect is answered with {told[0]}, remove with {told[1]}")


@case("remove-used", f"{_API}, VolumeDelete: 409")
def remove_used(stage: Stage) -> None:
    """A volume is not removed while a container has it, running or not: 409, and nothing happens to it."""
    stage.create("a")
    (stage.mounted("c", "a") / "kept").write_text("kept")
    running = status_of(lambda: stage.remove("a"))
    stage.containers.kill("c")
    stopped = status_of(lambda: stage.remove("a"))
    expect((running, stopped) == (HTTPStatus.CONFLICT,) * 2, f"running {running}, stopped {stopped}")
    stage.containers.start("c")
    expect((stage.seen_by("c") / "kept").read_text() == "kept", "a file is not what it was")


@case("remove-forgets", f"{_PLUGIN}: Remove")
def remove_forgets(stage: Stage) -> None:
    """What is created with the name of a removed volume is empty."""
    stage.create("a")
    (stage.mounted("c", "a") / "old").write_text("old")
    stage.leave("c")
    stage.remove("a")
    expect(status_of(lambda: stage.inspect("a")) == HTTPStatus.NOT_FOUND, "it is still there")
    stage.create("a")
    left = [path.name for path in stage.mounted("c", "a").iterdir()]
    expect(left == [], f"in it are {left}")


@case("names", f"{_API}, VolumeCreate: [a-zA-Z0-9][a-zA-Z0-9_.-]*")
def names(stage: Stage) -> None:
    """Names of all letters that the engine takes, long ones, and such as differ in case only, are of volumes apart."""
    chosen = ["CASE", "case", "a..b", "a_b.c-d", "0", "-x-", "x" * 100, "trailing."]
    for name in chosen:
        stage.create(name)
    for name in chosen:
        (stage.mounted(f"n{chosen.index(name)}", name) / "name").write_text(name)
    for name in chosen:
        found = (stage.seen_by(f"n{chosen.index(name)}") / "name").read_text()
        expect(found == name, f"in {name} is what was written to {found}")


@case("option-unknown", "moby/moby volume/local: invalid option; docker volume create -o")
def option_unknown(stage: Stage) -> None:
    """An option that the driver does not know is refused, and there is no volume then."""
    refused = status_of(lambda: stage.create("a", {"pyvol-conform-nonsense": "1"}))
    expect(refused >= HTTPStatus.BAD_REQUEST, "it was taken without a word")
    expect(status_of(lambda: stage.inspect("a")) == HTTPStatus.NOT_FOUND, "there is a volume all the same")


@case("mountpoint", f"{_API}, Volume.Mountpoint")
def mountpoint(stage: Stage) -> None:
    """While a container has it, the mount point that inspect tells is where its files are."""
    stage.create("a")
    (stage.mounted("c", "a") / "here").write_text("here")
    told = stage.inspect("a")["Mountpoint"]
    expect(told.startswith("/"), f"it is {told!r}")
    expect((Path(told) / "here").is_file(), f"in {told} is not what the container wrote")


@case("new-empty", "moby/moby#18670; docs.docker.com, volumes: populate")
def new_empty(stage: Stage) -> None:
    """A new volume is empty, without lost+found, which programs such as databases refuse."""
    stage.create("a")
    found = [path.name for path in stage.mounted("c", "a").iterdir()]
    expect(found == [], f"in it are {found}")


@case("new-populated", "docs.docker.com, volumes: populate a volume using a container")
def new_populated(stage: Stage) -> None:
    """What an image has at that place is in a new volume, with owners and modes."""
    stage.create("a")
    volume = stage.mounted("c", "a", tag="seeded")
    expect((volume / "file").read_text() == "seed", "the file is another one")
    file, root = (volume / "file").stat(), volume.stat()
    expect((file.st_uid, file.st_gid, file.st_mode & 0o7777) == (1234, 2345, 0o640), "the file is somebody else's")
    expect((root.st_uid, root.st_gid, root.st_mode & 0o7777) == (1234, 2345, 0o750), "the directory is somebody else's")
    expect((volume / "link").readlink().name == "file", "the link leads elsewhere")


@case("old-not-populated", "docs.docker.com, volumes: populate a volume using a container")
def old_not_populated(stage: Stage) -> None:
    """What is in a volume stays as it is, whatever an image has at that place."""
    stage.create("a")
    (stage.mounted("c", "a") / "mine").write_text("mine")
    stage.leave("c")
    found = sorted(path.name for path in stage.mounted("d", "a", tag="seeded").iterdir())
    expect(found == ["mine"], f"in it are {found}")


@case("anonymous", f"{_API}, HostConfig.Mounts; ContainerDelete v=true")
def anonymous(stage: Stage) -> None:
    """A volume without a name is the driver's, and goes with its container."""
    wish = {"Type": "volume", "Target": TARGET, "VolumeOptions": {"DriverConfig": {"Name": stage.driver}}}
    stage.containers.run("c", {"NetworkMode": "none", "Mounts": [wish]})
    [mount] = [each for each in stage.containers.inspect("c")["Mounts"] if each["Type"] == "volume"]
    (stage.seen_by("c") / "file").write_text("x")
    expect(mount["Driver"].partition(":")[0] == stage.driver.partition(":")[0], f"its driver is {mount['Driver']}")
    stage.leave("c")
    gone = status_of(lambda: stage.containers.get(f"/volumes/{mount['Name']}"))
    expect(gone == HTTPStatus.NOT_FOUND, "it is still there")
